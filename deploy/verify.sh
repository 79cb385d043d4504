#!/usr/bin/env bash
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

VERIFY_TIMEOUT_SEC=${VERIFY_TIMEOUT_SEC:-180}
VERIFY_INTERVAL_SEC=${VERIFY_INTERVAL_SEC:-5}
# An instance lists its own workers: so many questions reach all of some instances, most likely. Each step asks again and again.
VERIFY_LOOKS=${VERIFY_LOOKS:-12}

usage() {
  cat <<TEXT
Usage: deploy/verify.sh [options]
Checks a deployment, step by step, and waits up to $VERIFY_TIMEOUT_SEC s (VERIFY_TIMEOUT_SEC) in each:
  1. the rendezvous service answers with its list of workers;
  2. $WORKER_INSTANCES workers are connected and have reported their STUN endpoints;
  3. they are seen with the NAT's static address;
  4. they have linked, by their log entries.
Exit status 0 when all four hold, 1 otherwise. Needs gcloud, curl, and jq or python3.
TEXT
}
parse_options "" "$@"

in_region=(--project "$PROJECT" --region "$REGION")
# The message that a worker logs when a link is up in both directions.
LINKED_MESSAGE="link established"

# What a check says of itself: where it stands, and what to do if it stays so.
PROGRESS=''
ADVICE=()
# What does not fail a check but may explain why the next one fails.
NOTE=''
# One line for each worker listed, of whichever instance: id, connected, HTTP-reported address, STUN-reported address, STUN-reported port; "-" where
# unknown. Workers choose these texts, so whatever an address cannot contain is replaced.
WORKERS=''

# workers_in JSON: the lines of WORKERS.
workers_in() {
  if command -v jq >/dev/null 2>&1; then
    jq -r '.workers | to_entries[] |
      [.key, .value.connected, .value.http_reported_public_ip, .value.stun_reported_udp_ip, .value.stun_reported_udp_port] |
      map(if . == null or . == "" then "-" else tostring | gsub("[^0-9A-Za-z.:_-]"; "?") end) | join(" ")' <<<"$1"
  else
    python3 -c '
import json, re, sys
fields = "connected", "http_reported_public_ip", "stun_reported_udp_ip", "stun_reported_udp_port"
for name, worker in json.load(sys.stdin)["workers"].items():
    values = ["-" if worker.get(field) in (None, "") else str(worker[field]) for field in fields]
    print(*(re.sub("[^0-9A-Za-z.:_-]", "?", value) for value in [name, *values]))
' <<<"$1"
  fi
}

# look: what one instance lists.
look() {
  local body
  if ! body=$(curl --silent --show-error --fail --max-time 10 "$RENDEZVOUS_URL/debug/list_workers" 2>&1); then
    PROGRESS="no answer: $body"
    return 1
  fi
  if ! LISTED=$(workers_in "$body" 2>/dev/null); then
    PROGRESS="the answer is not a list of workers: ${body:0:120}"
    return 1
  fi
}

check_list() {
  local number line id known
  ADVICE=(
    "read the service's log: gcloud run services logs read $RENDEZVOUS_SERVICE --region $REGION --project $PROJECT"
    "if it answers 403, deploy it again with services.sh: it has to allow unauthenticated requests"
  )
  WORKERS='' known=' '
  for ((number = 0; number < VERIFY_LOOKS; number++)); do
    look || return 1
    while read -r line; do
      id=${line%% *}
      if [[ -n $id && $known != *" $id "* ]]; then
        known+="$id "
        WORKERS+="$line"$'\n'
      fi
    done <<<"$LISTED"
  done
  PROGRESS="$RENDEZVOUS_URL"
}

# check_ready: counts on the way what is missing first.
check_ready() {
  local id connected http_ip stun_ip stun_port listed=0 up=0 ready=0
  check_list || return 1
  while read -r id connected http_ip stun_ip stun_port; do
    [[ -n $id ]] || continue
    listed=$((listed + 1))
    [[ $connected == [Tt]rue ]] || continue
    up=$((up + 1))
    if [[ $stun_ip != - && $stun_port != - ]]; then ready=$((ready + 1)); fi
  done <<<"$WORKERS"
  PROGRESS="$listed listed, $up connected, $ready with a STUN endpoint; $WORKER_INSTANCES needed"
  local read_log="gcloud run services logs read $WORKER_SERVICE --region $REGION --project $PROJECT"
  if ((up < WORKER_INSTANCES)); then
    ADVICE=(
      "see whether the workers start and connect: $read_log"
      "see that services.sh gave them this URL: $RENDEZVOUS_URL"
      "a new instance can wait a minute or more for its VPC connection: try again"
    )
  else
    ADVICE=(
      "see what STUN discovery says: $read_log"
      "try other STUN servers: WORKER_ENV=STUN_SERVERS=stun.cloudflare.com:3478 deploy/services.sh --worker-only"
      "see that $NAT translates UDP for $SUBNET: deploy/network.sh"
    )
  fi
  ((ready >= WORKER_INSTANCES))
}

# check_address: a worker elsewhere may be listed as well, so enough workers behind the NAT will do.
check_address() {
  local id connected http_ip stun_ip stun_port seen=() behind=0
  check_list || return 1
  NOTE=''
  while read -r id connected http_ip stun_ip stun_port; do
    [[ $connected == [Tt]rue ]] || continue
    seen+=("$http_ip")
    [[ $http_ip == "$NAT_IP" ]] || continue
    behind=$((behind + 1))
    if [[ $stun_ip != "$NAT_IP" ]]; then
      NOTE="STUN saw a worker as $stun_ip, so its server is not reached through the NAT; if the workers do not link,
  name another one: WORKER_ENV=STUN_SERVERS=stun.cloudflare.com:3478 deploy/services.sh --worker-only"
    fi
  done <<<"$WORKERS"
  PROGRESS="$behind of $WORKER_INSTANCES workers seen with $NAT_IP (all: ${seen[*]-none})"
  ADVICE=(
    "an address of -: the worker could not reach its IP echo service; name another in WORKER_ENV=IP_ECHO_URL=…"
    "another address: see that $WORKER_SERVICE has --vpc-egress=all-traffic ($VPC, $SUBNET): deploy/services.sh"
    "see that $NAT uses $NAT_ADDRESS: deploy/network.sh says so if not"
  )
  ((behind >= WORKER_INSTANCES))
}

# check_linked: a link counts when both ends say so, that is, when two instances of the current revision do (one, if
# no more were asked for: its peer then runs elsewhere).
check_linked() {
  local instances instance linked=' ' count=0 needed=$((WORKER_INSTANCES < 2 ? WORKER_INSTANCES : 2))
  ADVICE=(
    "see why the punch failed: gcloud run services logs read $WORKER_SERVICE --region $REGION --project $PROJECT"
    "see that $NAT maps independently of the endpoint: deploy/network.sh"
    "both workers are behind one address: deploy/README.md, 'If the workers do not link'"
  )
  if ! instances=$(gcloud logging read "$LOG_FILTER" --project "$PROJECT" --freshness "${LOG_FRESHNESS:-7d}" \
    --limit 200 --format 'value(labels.instanceId)' 2>&1); then
    PROGRESS="the log cannot be read: $instances"
    return 1
  fi
  while read -r instance; do
    if [[ -n $instance && $linked != *" $instance "* ]]; then
      linked+="$instance "
      count=$((count + 1))
    fi
  done <<<"$instances"
  PROGRESS="$count instances logged \"$LINKED_MESSAGE\"; $needed needed"
  ((count >= needed))
}

# wait_until TITLE CHECK: repeats the check until it holds or the time is up.
wait_until() {
  local title=$1 check=$2 shown='' deadline=$((SECONDS + VERIFY_TIMEOUT_SEC))
  until "$check"; do
    if ((SECONDS >= deadline)); then
      die "$title: FAILED" "found: $PROGRESS" "what to do:" "${ADVICE[@]/#/- }"
    fi
    [[ $PROGRESS == "$shown" ]] || say "$title: waiting ($PROGRESS)"
    shown=$PROGRESS
    sleep "$VERIFY_INTERVAL_SEC"
  done
  say "$title: ok ($PROGRESS)"
}

need_tools() {
  is_dry_run && return
  need_tool curl "install curl"
  command -v jq >/dev/null 2>&1 || command -v python3 >/dev/null 2>&1 ||
    die "neither jq nor python3 is installed" "one of them has to read the list of workers"
}

print_checks() {
  printf '%s\n' "$(quoted curl --silent --show-error --fail "$RENDEZVOUS_URL/debug/list_workers")"
  printf '%s\n' "$(quoted gcloud logging read "$LOG_FILTER" --project "$PROJECT" --freshness "${LOG_FRESHNESS:-7d}" \
    --limit 200 --format 'value(labels.instanceId)')"
}

main() {
  need_tools
  need_gcloud
  heading "verify"
  need_rendezvous_url
  # As the workers take it, so that one setting serves both: with a WebSocket scheme, or with a slash at the end.
  RENDEZVOUS_URL=${RENDEZVOUS_URL/#ws/http}
  RENDEZVOUS_URL=${RENDEZVOUS_URL%/}
  read_value NAT_IP gcloud compute addresses describe "$NAT_ADDRESS" "${in_region[@]}" --format 'value(address)'
  read_value WORKER_REVISION gcloud run services describe "$WORKER_SERVICE" "${in_region[@]}" \
    --format 'value(status.latestReadyRevisionName)'
  # Of this revision only: an earlier one may have linked where this one does not. A string by itself is looked for in
  # every field of an entry.
  LOG_FILTER="resource.type=\"cloud_run_revision\" AND resource.labels.service_name=\"$WORKER_SERVICE\""
  LOG_FILTER+=" AND resource.labels.revision_name=\"$WORKER_REVISION\" AND \"$LINKED_MESSAGE\""
  if is_dry_run; then
    print_checks
    return
  fi
  wait_until "1/4 rendezvous" check_list
  wait_until "2/4 workers" check_ready
  wait_until "3/4 address" check_address
  [[ -z $NOTE ]] || warn "$NOTE"
  wait_until "4/4 link" check_linked
  say "verified: workers behind $NAT_IP are linked"
}

main
