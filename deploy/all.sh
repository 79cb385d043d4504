#!/usr/bin/env bash
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

usage() {
  cat <<TEXT
Usage: deploy/all.sh [--local] [--skip-verify] [options]
Runs network.sh, store.sh, images.sh, services.sh and verify.sh, in this order, and ends at the first that fails. Can be run
again at any time: what is there already stays.

  --local          build the images with Docker on this machine instead of by Cloud Build
  --skip-verify    do not wait for the workers to link
TEXT
}
LOCAL=false
SKIP_VERIFY=false
parse_options "--local --skip-verify" "$@"

# Each script is a process of its own; the settings reach it through the environment.
step() {
  local script=$1
  shift
  heading "deploy/$script"
  bash "$DEPLOY_DIR/$script" "$@" || die "deploy/$script failed" "put that right and run deploy/all.sh again"
}

need_gcloud
step network.sh
step store.sh
if [[ $LOCAL == true ]]; then step images.sh --local; else step images.sh; fi
step services.sh
if [[ $SKIP_VERIFY != true ]]; then step verify.sh; fi
