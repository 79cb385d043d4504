#!/usr/bin/env bash
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

usage() {
  cat <<TEXT
Usage: deploy/services.sh [--worker-only] [options]
Deploys the relay ($RELAY_SERVICE), the rendezvous service ($RENDEZVOUS_SERVICE) with the relay's URL and the store of store.sh,
and the workers ($WORKER_SERVICE) with the URL of the rendezvous service.

  --worker-only    leave relay and rendezvous service as they are; with RENDEZVOUS_URL set, it can be anywhere
TEXT
}
WORKER_ONLY=false
parse_options "--worker-only" "$@"

in_region=(--project "$PROJECT" --region "$REGION")

# The addresses from which Cloud Run's front end reaches a container: link-local, handed out inside the host, and
# loopback, where a proxy runs beside the container. Neither can be routed to from outside, so nobody but the platform
# can use them. Requests from there are believed about whom they forward for.
TRUSTED_PROXY=${TRUSTED_PROXY:-169.254.0.0/16,127.0.0.0/8}
RENDEZVOUS_ENV=${RENDEZVOUS_ENV:-}
RELAY_ENV=${RELAY_ENV:-}
WORKER_ENV=${WORKER_ENV:-}

# variables NAME=VALUE…: the value of --set-env-vars. Commas are common in the values, so gcloud is told (by ^@^) that
# the variables are separated by @ instead.
variables() {
  local list='' variable
  for variable in "$@"; do
    [[ $variable == [A-Za-z_]*=* ]] || die "not of the form NAME=VALUE: $variable"
    [[ $variable != *@* ]] || die "a value must not contain @: $variable"
    list+="${list:+@}$variable"
  done
  printf '^@^%s' "$list"
}

# One instance: the two workers of a session have to meet in one. While a new revision takes over there are two; workers come
# back to the new one when the old one has shut down.
deploy_relay() {
  local extra=() list
  read -r -a extra <<<"$RELAY_ENV"
  list=$(variables "TRUSTED_PROXY=$TRUSTED_PROXY" LOG_FORMAT=json ${extra[@]+"${extra[@]}"})
  heading "relay"
  run gcloud run deploy "$RELAY_SERVICE" --image "$(rendezvous_image)" \
    --command=/usr/local/bin/holepunch --args=relay \
    --allow-unauthenticated --min-instances=1 --max-instances=1 \
    --timeout=3600 --concurrency=1000 --no-cpu-throttling --port=8080 \
    "--service-account=$(runtime_account)" "--set-secrets=RELAY_KEY=$RELAY_KEY_SECRET:latest" \
    "--set-env-vars=$list" "${in_region[@]}"
  read_value RELAY_URL gcloud run services describe "$RELAY_SERVICE" "${in_region[@]}" --format 'value(status.url)'
}

# What all instances share: that of store.sh, unless the caller named another one.
need_store() {
  [[ -n $STORE ]] && return
  read_value STORE_HOST gcloud redis instances describe "$STORE_INSTANCE" "${in_region[@]}" --format 'value(host)'
  STORE=redis://$STORE_HOST:6379
}

# Several instances, and two revisions side by side, are one service by what they share. A WebSocket is one request for as long as it lives: hence the longest time-out that the platform has (its
# default ends every connection after 5 minutes), the highest concurrency, and a CPU that is not throttled when no
# request is being answered.
deploy_rendezvous() {
  local extra=() list
  read -r -a extra <<<"$RENDEZVOUS_ENV"
  # No UDP reaches a container there: STUN stays off.
  list=$(variables STUN_LISTEN=none "TRUSTED_PROXY=$TRUSTED_PROXY" "STORE=$STORE" NO_RELAY=true "RELAY_URL=$RELAY_URL" \
    LOG_FORMAT=json ${extra[@]+"${extra[@]}"})
  heading "rendezvous service"
  run gcloud run deploy "$RENDEZVOUS_SERVICE" --image "$(rendezvous_image)" \
    --allow-unauthenticated "--min-instances=$RENDEZVOUS_INSTANCES_MIN" "--max-instances=$RENDEZVOUS_INSTANCES_MAX" \
    --timeout=3600 --concurrency=1000 --no-cpu-throttling --port=8080 \
    --vpc-egress=private-ranges-only "--network=$VPC" "--subnet=$SUBNET" \
    "--service-account=$(runtime_account)" "--set-secrets=RELAY_KEY=$RELAY_KEY_SECRET:latest" \
    "--set-env-vars=$list" "${in_region[@]}"
}

# Nothing but the platform's health check calls a worker, so it is always between requests and needs its CPU then.
# All its traffic goes through the VPC, and so through the NAT that it is to punch through.
deploy_worker() {
  local extra=() list
  read -r -a extra <<<"$WORKER_ENV"
  list=$(variables "RENDEZVOUS_SERVICE_URL=$RENDEZVOUS_URL" LOG_FORMAT=json ${extra[@]+"${extra[@]}"})
  heading "workers"
  run gcloud run deploy "$WORKER_SERVICE" --image "$(worker_image)" \
    --no-allow-unauthenticated "--min-instances=$WORKER_INSTANCES" "--max-instances=$WORKER_INSTANCES" \
    --no-cpu-throttling --concurrency=80 --port=8080 \
    --vpc-egress=all-traffic "--network=$VPC" "--subnet=$SUBNET" \
    "--set-env-vars=$list" "${in_region[@]}"
}

main() {
  need_gcloud
  if [[ $WORKER_ONLY != true ]]; then
    [[ -z $RENDEZVOUS_URL ]] || warn "RENDEZVOUS_URL is set: the workers get $RENDEZVOUS_URL"
    deploy_relay
    need_store
    deploy_rendezvous
  fi
  need_rendezvous_url
  deploy_worker
  is_dry_run || say "services: the rendezvous service is at $RENDEZVOUS_URL"
}

main
