#!/usr/bin/env bash
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

usage() {
  cat <<TEXT
Usage: deploy/network.sh [options]
Sets up what the workers' traffic goes through: the APIs, the VPC $VPC with the subnet $SUBNET ($SUBNET_RANGE), the
static address $NAT_ADDRESS, and the Cloud NAT gateway $NAT on the router $ROUTER. What is there already stays; an
existing gateway is corrected where workers could not link through it.
TEXT
}
parse_options "" "$@"

in_project=(--project "$PROJECT")
in_region=(--project "$PROJECT" --region "$REGION")

# Without endpoint-independent mapping the gateway gives a socket a new port for every destination (a symmetric NAT):
# the endpoint that STUN sees is then not the one that a peer sees, and no punch succeeds. Dynamic port allocation
# excludes it. The idle time-out is longer than the gateway's 30 s, so that a worker that waits for a peer keeps its
# mapping.
mapping_options=(
  --enable-endpoint-independent-mapping
  --no-enable-dynamic-port-allocation
  --udp-idle-timeout "$NAT_UDP_IDLE_TIMEOUT"
)
correct=(gcloud compute routers nats update "$NAT" --router "$ROUTER" "${mapping_options[@]}" "${in_region[@]}")

enable_apis() {
  heading "APIs"
  run gcloud services enable run.googleapis.com cloudbuild.googleapis.com compute.googleapis.com \
    artifactregistry.googleapis.com iam.googleapis.com redis.googleapis.com secretmanager.googleapis.com "${in_project[@]}"
}

ensure_vpc() {
  heading "VPC and subnet"
  create_unless_exists "VPC $VPC" \
    gcloud compute networks describe "$VPC" "${in_project[@]}" -- \
    gcloud compute networks create "$VPC" --subnet-mode custom "${in_project[@]}"
  create_unless_exists "subnet $SUBNET" \
    gcloud compute networks subnets describe "$SUBNET" "${in_region[@]}" -- \
    gcloud compute networks subnets create "$SUBNET" --network "$VPC" --range "$SUBNET_RANGE" \
    --enable-private-ip-google-access "${in_region[@]}"
}

ensure_nat() {
  heading "router, static address and NAT"
  create_unless_exists "router $ROUTER" \
    gcloud compute routers describe "$ROUTER" "${in_region[@]}" -- \
    gcloud compute routers create "$ROUTER" --network "$VPC" "${in_region[@]}"
  create_unless_exists "address $NAT_ADDRESS" \
    gcloud compute addresses describe "$NAT_ADDRESS" "${in_region[@]}" -- \
    gcloud compute addresses create "$NAT_ADDRESS" "${in_region[@]}"

  local describe=(gcloud compute routers nats describe "$NAT" --router "$ROUTER" "${in_region[@]}")
  local create=(gcloud compute routers nats create "$NAT" --router "$ROUTER"
    --nat-external-ip-pool "$NAT_ADDRESS" --nat-custom-subnet-ip-ranges "$SUBNET"
    "${mapping_options[@]}" "${in_region[@]}")
  if is_dry_run; then
    printf '# A gateway that is there already without endpoint-independent mapping is corrected instead:\n# %s\n' \
      "$(quoted "${correct[@]}")"
    create_unless_exists "NAT $NAT" "${describe[@]}" -- "${create[@]}"
  elif exists "${describe[@]}"; then
    correct_nat "${describe[@]}"
  else
    run "${create[@]}"
  fi
}

# correct_nat DESCRIBE…: turns endpoint-independent mapping on in an existing gateway. Its addresses are only reported:
# changing them would cut every connection that uses them.
correct_nat() {
  local mapping addresses
  mapping=$("$@" --format 'csv[no-heading](enableEndpointIndependentMapping,enableDynamicPortAllocation)')
  case $mapping in
    [Tt]rue, | [Tt]rue,[Ff]alse) say "NAT $NAT: there already, with endpoint-independent mapping" ;;
    *)
      say "NAT $NAT: there already, but without endpoint-independent mapping; correcting that"
      run "${correct[@]}"
      ;;
  esac
  addresses=$("$@" --format 'value(natIps)')
  [[ "$addresses;" == *"/$NAT_ADDRESS;"* ]] ||
    warn "NAT $NAT does not use the address $NAT_ADDRESS, so verify.sh will fail; to change that:
  $(quoted gcloud compute routers nats update "$NAT" --router "$ROUTER" \
      --nat-external-ip-pool "$NAT_ADDRESS" "${in_region[@]}")"
}

main() {
  need_gcloud
  enable_apis
  ensure_vpc
  ensure_nat
  is_dry_run || say "network: ready"
}

main
