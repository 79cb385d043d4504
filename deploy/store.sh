#!/usr/bin/env bash
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

usage() {
  cat <<TEXT
Usage: deploy/store.sh [options]
Makes what several instances of the rendezvous service share: the Memorystore instance $STORE_INSTANCE (Redis 7.2, $STORE_TIER),
the key of the relay as the secret $RELAY_KEY_SECRET, and the account $RUNTIME_ACCOUNT, which may read that secret.
What is there already stays. With STORE set (redis://HOST:PORT), no Memorystore instance is made.
TEXT
}
parse_options "" "$@"

in_project=(--project "$PROJECT")
in_region=(--project "$PROJECT" --region "$REGION")

# Nothing in it has to outlive it: without replicas (STORE_TIER=basic) a failure costs some seconds without new pairs, and
# whatever time the instance needs to come back.
ensure_store() {
  heading "store"
  create_unless_exists "store $STORE_INSTANCE" \
    gcloud redis instances describe "$STORE_INSTANCE" "${in_region[@]}" -- \
    gcloud redis instances create "$STORE_INSTANCE" --tier "$STORE_TIER" --size 1 --redis-version redis_7_2 \
    --network "$VPC" "${in_region[@]}"
}

# The key is made here, and is neither printed nor in any list of processes.
ensure_key() {
  heading "key of the relay"
  # shellcheck disable=SC2016  # the $ are for the shell that this starts
  create_unless_exists "secret $RELAY_KEY_SECRET" \
    gcloud secrets describe "$RELAY_KEY_SECRET" "${in_project[@]}" -- \
    bash -c 'key=$(openssl rand -hex 32) && printf %s "$key" | gcloud secrets create "$@" --data-file=-' bash \
    "$RELAY_KEY_SECRET" --replication-policy automatic "${in_project[@]}"
}

ensure_account() {
  heading "account"
  create_unless_exists "account $RUNTIME_ACCOUNT" \
    gcloud iam service-accounts describe "$(runtime_account)" "${in_project[@]}" -- \
    gcloud iam service-accounts create "$RUNTIME_ACCOUNT" "${in_project[@]}"
  run gcloud secrets add-iam-policy-binding "$RELAY_KEY_SECRET" --member "serviceAccount:$(runtime_account)" \
    --role roles/secretmanager.secretAccessor "${in_project[@]}"
}

main() {
  need_gcloud
  is_dry_run || need_tool openssl "install openssl: the key of the relay is made with it"
  if [[ -z $STORE ]]; then ensure_store; fi
  ensure_key
  ensure_account
  is_dry_run || say "store: ready"
}

main
