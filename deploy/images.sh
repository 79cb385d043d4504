#!/usr/bin/env bash
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

usage() {
  cat <<TEXT
Usage: deploy/images.sh [--local] [options]
Makes the two Artifact Registry repositories ($RENDEZVOUS_REPO, $WORKER_REPO) and puts the two images into them, built by
Cloud Build or, with --local, by Docker on this machine.

  --local          build here: docker buildx build --platform linux/amd64 --push
TEXT
}
LOCAL=false
parse_options "--local" "$@"

in_project=(--project "$PROJECT")
at_location=(--project "$PROJECT" --location "$(registry_region)")

ensure_repository() {
  create_unless_exists "repository $1" \
    gcloud artifacts repositories describe "$1" "${at_location[@]}" -- \
    gcloud artifacts repositories create "$1" --repository-format docker "${at_location[@]}"
}

# Which account Cloud Build runs as depends on the age of the project and on its organisation, so it is asked.
read_build_account() {
  BUILD_ACCOUNT=${BUILD_ACCOUNT:-}
  [[ -n $BUILD_ACCOUNT ]] || read_value BUILD_ACCOUNT gcloud builds get-default-service-account "${in_project[@]}"
}

allow_push() {
  run gcloud artifacts repositories add-iam-policy-binding "$1" --member "serviceAccount:$BUILD_ACCOUNT" \
    --role roles/artifactregistry.writer "${at_location[@]}"
}

# What the images' --version tells; "unknown" where the source is in no repository.
commit() { git -C "$REPO_ROOT" rev-parse --short=12 HEAD 2>/dev/null || printf unknown; }

# `gcloud builds submit` takes no name of a Dockerfile; the configuration file names both.
build_in_cloud() {
  heading "the account of Cloud Build may push"
  read_build_account
  allow_push "$RENDEZVOUS_REPO"
  allow_push "$WORKER_REPO"
  heading "images, by Cloud Build"
  run gcloud builds submit "$REPO_ROOT" --config "$DEPLOY_DIR/cloudbuild.yaml" \
    --substitutions "_RENDEZVOUS_IMAGE=$(rendezvous_image),_WORKER_IMAGE=$(worker_image),_COMMIT=$(commit)" \
    "${in_project[@]}"
}

build_locally() {
  heading "images, by Docker on this machine"
  run gcloud auth configure-docker "$(registry_region)-docker.pkg.dev" --quiet
  build_image "$DEPLOY_DIR/Dockerfile.rendezvous" "$(rendezvous_image)"
  build_image "$DEPLOY_DIR/Dockerfile.worker" "$(worker_image)"
}

build_image() {
  run docker buildx build --platform linux/amd64 --build-arg "HOLEPUNCH_COMMIT=$(commit)" --file "$1" --tag "$2" \
    --push "$REPO_ROOT"
}

need_buildx() {
  is_dry_run && return
  need_tool docker "install Docker, or build without --local"
  docker buildx version >/dev/null 2>&1 ||
    die "docker has no buildx" "install it (https://docs.docker.com/go/buildx/), or build without --local"
}

main() {
  need_gcloud
  if [[ $LOCAL == true ]]; then need_buildx; fi
  heading "repositories"
  ensure_repository "$RENDEZVOUS_REPO"
  ensure_repository "$WORKER_REPO"
  if [[ $LOCAL == true ]]; then build_locally; else build_in_cloud; fi
  is_dry_run || say "images: $(rendezvous_image) and $(worker_image)"
}

main
