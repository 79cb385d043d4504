# shellcheck shell=bash
# Common to all scripts here: settings, options, running or printing commands. Sourced, not run.
set -euo pipefail

DEPLOY_DIR=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck disable=SC2034  # used by the scripts that source this file
REPO_ROOT=$(cd "$DEPLOY_DIR/.." && pwd)

# Every setting can be given in the environment; deploy/README.md explains them. Exported, so that all.sh hands them on.
export PROJECT=${PROJECT:-}
export REGION=${REGION:-us-central1}
export RENDEZVOUS_SERVICE=${RENDEZVOUS_SERVICE:-rendezvous-service}
export RELAY_SERVICE=${RELAY_SERVICE:-relay-service}
export WORKER_SERVICE=${WORKER_SERVICE:-ip-worker-service}
export RENDEZVOUS_INSTANCES_MIN=${RENDEZVOUS_INSTANCES_MIN:-2}
export RENDEZVOUS_INSTANCES_MAX=${RENDEZVOUS_INSTANCES_MAX:-10}
export RUNTIME_ACCOUNT=${RUNTIME_ACCOUNT:-rendezvous-runtime}
export STORE=${STORE:-}
export STORE_INSTANCE=${STORE_INSTANCE:-rendezvous-store}
export STORE_TIER=${STORE_TIER:-standard}
export RELAY_KEY_SECRET=${RELAY_KEY_SECRET:-rendezvous-relay-key}
export RENDEZVOUS_REPO=${RENDEZVOUS_REPO:-rendezvous-repo}
export WORKER_REPO=${WORKER_REPO:-ip-worker-repo}
export IMAGE_TAG=${IMAGE_TAG:-latest}
export VPC=${VPC:-ip-worker-vpc}
export SUBNET=${SUBNET:-ip-worker-subnet}
export SUBNET_RANGE=${SUBNET_RANGE:-10.8.0.0/24}
export ROUTER=${ROUTER:-ip-worker-router}
export NAT=${NAT:-ip-worker-nat}
export NAT_ADDRESS=${NAT_ADDRESS:-ip-worker-ip}
export NAT_UDP_IDLE_TIMEOUT=${NAT_UDP_IDLE_TIMEOUT:-120s}
export WORKER_INSTANCES=${WORKER_INSTANCES:-2}
export RENDEZVOUS_URL=${RENDEZVOUS_URL:-}
export DRY_RUN=${DRY_RUN:-false}

say() { printf '%s\n' "$*" >&2; }
warn() { say "warning: $*"; }

# die MESSAGE [HINT…]: each hint on a line of its own.
die() {
  say "error: $1"
  shift
  local hint
  for hint in "$@"; do say "  $hint"; done
  exit 1
}

is_dry_run() { [[ $DRY_RUN == true ]]; }

# heading TEXT: progress on the way; in a dry run a comment among the printed commands.
heading() {
  if is_dry_run; then printf '\n# %s\n' "$*"; else say "== $*"; fi
}

common_options() {
  cat <<TEXT

Options of every script:
  --project ID     Google Cloud project (PROJECT, now ${PROJECT:-not named})
  --region NAME    region (REGION, now $REGION)
  --dry-run        print the commands, ready to paste, and run none of them
  --help           this text
All other settings are environment variables: see deploy/README.md.
TEXT
}

# parse_options OWN "$@": the common options, and the flags named in OWN (a list in one string). The flag
# --worker-only sets WORKER_ONLY=true. The script defines usage.
parse_options() {
  local own=" $1 " name
  shift
  while (($# > 0)); do
    case $1 in
      --help | -h) usage; common_options; exit 0 ;;
      --dry-run) DRY_RUN=true ;;
      --project=*) PROJECT=${1#*=} ;;
      --region=*) REGION=${1#*=} ;;
      --project | --region)
        (($# > 1)) || die "$1 needs a value"
        if [[ $1 == --project ]]; then PROJECT=$2; else REGION=$2; fi
        shift
        ;;
      --*)
        [[ $own == *" $1 "* ]] || die "unknown option: $1" "--help lists the options"
        name=$(printf '%s' "${1#--}" | tr 'a-z-' 'A-Z_')
        printf -v "$name" true
        ;;
      *) die "unexpected argument: $1" "--help lists the options" ;;
    esac
    shift
  done
  # A default would be somebody's.
  [[ -n $PROJECT ]] ||
    die "no project is named" "name the Google Cloud project: --project ID, or PROJECT=ID in the environment"
}

# quoted COMMAND…: one line that a shell reads back as the same words. A {{NAME}} in a word, left by read_value in a
# dry run, becomes "$NAME".
quoted() {
  local line='' word mark variable single="'" escaped="'\\''"
  for word in "$@"; do
    if [[ ! $word =~ ^[A-Za-z0-9_@%+=:,./-]+$ ]]; then
      word=${word//"$single"/"$escaped"}
      word="'$word'"
      while [[ $word =~ \{\{([A-Z_]+)\}\} ]]; do
        mark=${BASH_REMATCH[0]} variable="'\"\$${BASH_REMATCH[1]}\"'"
        word=${word/"$mark"/"$variable"}
        # Nothing is left of an empty '' beside it.
        word=${word#"''"} word=${word%"''"}
      done
    fi
    line+="${line:+ }$word"
  done
  printf '%s' "$line"
}

# run COMMAND…: for commands that change something.
run() {
  if is_dry_run; then
    printf '%s\n' "$(quoted "$@")"
  else
    say "+ $(quoted "$@")"
    "$@"
  fi
}

# read_value NAME COMMAND…: sets NAME to what the command prints, which must be something.
read_value() {
  local name=$1 value
  shift
  if is_dry_run; then
    # shellcheck disable=SC2016  # the $ is for the shell that this is pasted into
    printf '%s=$(%s)\n' "$name" "$(quoted "$@")"
    printf -v "$name" '{{%s}}' "$name"
    return
  fi
  value=$("$@") || die "this failed: $(quoted "$@")"
  [[ -n $value ]] || die "this printed nothing: $(quoted "$@")"
  printf -v "$name" '%s' "$value"
}

# exists COMMAND…: whether the thing that the command describes is there. Any answer but yes and "not found" ends the
# script: on a missing permission, say, nothing may be created or deleted.
exists() {
  local output
  if output=$("$@" 2>&1); then return 0; fi
  case $output in
    *[Nn]"ot found"* | *NOT_FOUND* | *"Cannot find"* | *"does not exist"*) return 1 ;;
  esac
  die "this failed: $(quoted "$@")" "$output"
}

# split_at_dashes WORD… -- WORD…: the two commands into LOOK_UP and CHANGE.
split_at_dashes() {
  LOOK_UP=()
  while [[ $1 != -- ]]; do
    LOOK_UP+=("$1")
    shift
  done
  shift
  CHANGE=("$@")
}

# create_unless_exists WHAT DESCRIBE… -- CREATE…
create_unless_exists() {
  local what=$1
  shift
  split_at_dashes "$@"
  if is_dry_run; then
    printf '%s >/dev/null 2>&1 ||\n  %s\n' "$(quoted "${LOOK_UP[@]}")" "$(quoted "${CHANGE[@]}")"
  elif exists "${LOOK_UP[@]}"; then
    say "$what: there already"
  else
    run "${CHANGE[@]}"
  fi
}

# delete_if_exists WHAT DESCRIBE… -- DELETE…
delete_if_exists() {
  local what=$1
  shift
  split_at_dashes "$@"
  if is_dry_run; then
    printf '%s >/dev/null 2>&1 &&\n  %s\n' "$(quoted "${LOOK_UP[@]}")" "$(quoted "${CHANGE[@]}")"
  elif exists "${LOOK_UP[@]}"; then
    run "${CHANGE[@]}"
  else
    say "$what: not there"
  fi
}

need_tool() {
  command -v "$1" >/dev/null 2>&1 || die "$1 is not installed or not in PATH" "$2"
}

# Ends the script unless gcloud is there, logged in, and sees the project. A dry run needs none of it.
need_gcloud() {
  is_dry_run && return
  need_tool gcloud "install the Google Cloud CLI: https://cloud.google.com/sdk/docs/install"
  local account
  account=$(gcloud auth list --filter=status:ACTIVE '--format=value(account)') || die "gcloud auth list failed"
  [[ -n $account ]] || die "gcloud is not logged in" "log in: gcloud auth login"
  gcloud projects describe "$PROJECT" '--format=value(projectId)' >/dev/null ||
    die "$account cannot see the project $PROJECT" \
      "name another one: --project ID, or PROJECT=ID in the environment" \
      "or log in as somebody else: gcloud auth login"
}

# Where the images are; another region's workers can run them too.
registry_region() { printf '%s' "${REGISTRY_REGION:-$REGION}"; }
image() { printf '%s-docker.pkg.dev/%s/%s/%s:%s' "$(registry_region)" "$PROJECT" "$1" "$2" "$IMAGE_TAG"; }
rendezvous_image() { image "$RENDEZVOUS_REPO" "$RENDEZVOUS_SERVICE"; }
worker_image() { image "$WORKER_REPO" "$WORKER_SERVICE"; }

# The account that the rendezvous and the relay run as; it may read one secret, and nothing else.
runtime_account() { printf '%s@%s.iam.gserviceaccount.com' "$RUNTIME_ACCOUNT" "$PROJECT"; }

# The URL of the rendezvous service into RENDEZVOUS_URL, unless the caller gave one.
need_rendezvous_url() {
  [[ -n $RENDEZVOUS_URL ]] && return
  read_value RENDEZVOUS_URL gcloud run services describe "$RENDEZVOUS_SERVICE" \
    --project "$PROJECT" --region "$REGION" --format 'value(status.url)'
}
