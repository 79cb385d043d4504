#!/usr/bin/env bash
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

usage() {
  cat <<TEXT
Usage: deploy/teardown.sh [--yes] [--keep-images] [options]
Deletes what the other scripts make, in the opposite order, after asking. The APIs stay enabled.

  --yes            do not ask
  --keep-images    leave the two repositories and their images
TEXT
}
YES=false
KEEP_IMAGES=false
parse_options "--yes --keep-images" "$@"

in_project=(--project "$PROJECT" --quiet)
in_region=(--project "$PROJECT" --region "$REGION" --quiet)
at_location=(--project "$PROJECT" --location "$(registry_region)" --quiet)

confirm() {
  is_dry_run && return
  [[ $YES == true ]] && return
  local answer=''
  say "This deletes the services, the network and the images of the project $PROJECT in $REGION:"
  say "  $RENDEZVOUS_SERVICE, $RELAY_SERVICE, $WORKER_SERVICE, $STORE_INSTANCE, $RELAY_KEY_SECRET, $RUNTIME_ACCOUNT, $NAT, $NAT_ADDRESS, $ROUTER, $SUBNET, $VPC, $RENDEZVOUS_REPO, $WORKER_REPO"
  printf 'Type the name of the project to go on: ' >&2
  read -r answer || true
  [[ $answer == "$PROJECT" ]] || die "nothing was deleted"
}

delete_services() {
  local service
  heading "services"
  for service in "$WORKER_SERVICE" "$RENDEZVOUS_SERVICE" "$RELAY_SERVICE"; do
    delete_if_exists "service $service" \
      gcloud run services describe "$service" "${in_region[@]}" -- \
      gcloud run services delete "$service" "${in_region[@]}"
  done
}

delete_store() {
  heading "store, key of the relay and account"
  delete_if_exists "store $STORE_INSTANCE" \
    gcloud redis instances describe "$STORE_INSTANCE" "${in_region[@]}" -- \
    gcloud redis instances delete "$STORE_INSTANCE" "${in_region[@]}"
  delete_if_exists "secret $RELAY_KEY_SECRET" \
    gcloud secrets describe "$RELAY_KEY_SECRET" "${in_project[@]}" -- \
    gcloud secrets delete "$RELAY_KEY_SECRET" "${in_project[@]}"
  delete_if_exists "account $RUNTIME_ACCOUNT" \
    gcloud iam service-accounts describe "$(runtime_account)" "${in_project[@]}" -- \
    gcloud iam service-accounts delete "$(runtime_account)" "${in_project[@]}"
}

delete_nat() {
  heading "NAT, static address and router"
  delete_if_exists "NAT $NAT" \
    gcloud compute routers nats describe "$NAT" --router "$ROUTER" "${in_region[@]}" -- \
    gcloud compute routers nats delete "$NAT" --router "$ROUTER" "${in_region[@]}"
  delete_if_exists "address $NAT_ADDRESS" \
    gcloud compute addresses describe "$NAT_ADDRESS" "${in_region[@]}" -- \
    gcloud compute addresses delete "$NAT_ADDRESS" "${in_region[@]}"
  delete_if_exists "router $ROUTER" \
    gcloud compute routers describe "$ROUTER" "${in_region[@]}" -- \
    gcloud compute routers delete "$ROUTER" "${in_region[@]}"
}

delete_images() {
  local repository
  heading "repositories"
  for repository in "$WORKER_REPO" "$RENDEZVOUS_REPO"; do
    delete_if_exists "repository $repository" \
      gcloud artifacts repositories describe "$repository" "${at_location[@]}" -- \
      gcloud artifacts repositories delete "$repository" "${at_location[@]}"
  done
}

delete_vpc() {
  heading "subnet and VPC"
  is_dry_run || say "Cloud Run gives the addresses of deleted workers back after 1 to 2 hours. If the subnet is still in use, run" \
    "this script again later: nothing of what is left costs anything."
  delete_if_exists "subnet $SUBNET" \
    gcloud compute networks subnets describe "$SUBNET" "${in_region[@]}" -- \
    gcloud compute networks subnets delete "$SUBNET" "${in_region[@]}"
  delete_if_exists "VPC $VPC" \
    gcloud compute networks describe "$VPC" "${in_project[@]}" -- \
    gcloud compute networks delete "$VPC" "${in_project[@]}"
}

main() {
  need_gcloud
  confirm
  delete_services
  delete_store
  delete_nat
  if [[ $KEEP_IMAGES != true ]]; then delete_images; fi
  # Last, because it is the one that may have to wait.
  delete_vpc
  is_dry_run || say "torn down"
}

main
