//! The scripts in `deploy/`, run against stand-ins for `gcloud`, `docker` and `curl` that record how they are called.
//!
//! Each test is a [`Scene`]: a folder of its own that is the whole of `PATH`, so that no real tool can be reached by
//! mistake, and rules for what the stand-ins answer (`deploy/testing/stand-in` describes them).

#![cfg(unix)]

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::PermissionsExt;

use scene::{KEY, RELAY_URL, SCRIPTS, STORE_IP, Scene, URL, deploy_dir, script};

#[path = "../../../deploy/testing/scene.rs"]
mod scene;
#[path = "../../../deploy/testing/verify.rs"]
mod verify;

#[test]
fn every_script_parses_is_executable_and_explains_itself() {
    let scene = Scene::fresh();
    for name in SCRIPTS {
        scene.bash(&[OsStr::new("-n"), script(name).as_os_str()]).expect_success();
        let mode = fs::metadata(script(name)).expect("the script is there").permissions().mode();
        assert_eq!(mode & 0o111, 0o111, "{name}.sh is not executable");
        let help = scene.run(name, &["--help"]).expect_success();
        assert!(
            help.stdout.contains(&format!("Usage: deploy/{name}.sh"))
                && help.stdout.contains("--dry-run")
        );
        scene.run(name, &["--nonsense"]).expect_failure(&["unknown option: --nonsense"]);
    }
}

#[test]
fn a_fresh_project_gets_a_nat_with_endpoint_independent_mapping_on_a_static_address() {
    let outcome = Scene::fresh().run("network", &[]).expect_success();
    outcome.expect_call(
        "gcloud services enable",
        &[
            "run.googleapis.com",
            "cloudbuild.googleapis.com",
            "compute.googleapis.com",
            "artifactregistry.googleapis.com",
            "iam.googleapis.com",
            "redis.googleapis.com",
            "secretmanager.googleapis.com",
        ],
    );
    outcome.expect_call(
        "gcloud compute networks create ip-worker-vpc",
        &["--subnet-mode custom", "--project my-project"],
    );
    outcome.expect_call(
        "gcloud compute networks subnets create ip-worker-subnet",
        &[
            "--network ip-worker-vpc",
            "--range 10.8.0.0/24",
            "--enable-private-ip-google-access",
            "--region us-central1",
        ],
    );
    outcome.expect_call(
        "gcloud compute routers nats create ip-worker-nat",
        &[
            "--router ip-worker-router",
            "--nat-external-ip-pool ip-worker-ip",
            "--nat-custom-subnet-ip-ranges ip-worker-subnet",
            "--enable-endpoint-independent-mapping",
            "--no-enable-dynamic-port-allocation",
            "--udp-idle-timeout 120s",
        ],
    );
    let router = outcome.place("gcloud compute routers create ip-worker-router");
    let address = outcome.place("gcloud compute addresses create ip-worker-ip");
    let nat = outcome.place("gcloud compute routers nats create");
    assert!(router < nat && address < nat);
}

#[test]
fn an_existing_network_is_left_as_it_is() {
    let outcome = Scene::deployed().run("network", &[]).expect_success();
    let changes = outcome.changes();
    assert!(changes.iter().all(|call| call.starts_with("gcloud services enable")), "{changes:#?}");
}

#[test]
fn an_existing_nat_that_maps_each_destination_separately_is_corrected() {
    for settings in [",", "False,True", "True,True"] {
        let scene =
            Scene::deployed().answers("gcloud compute routers nats describe *csv*", settings);
        let outcome = scene.run("network", &[]).expect_success();
        outcome.expect_call(
            "gcloud compute routers nats update ip-worker-nat",
            &["--enable-endpoint-independent-mapping", "--no-enable-dynamic-port-allocation"],
        );
        assert_eq!(outcome.changes().len(), 2, "the APIs and the correction");
    }
}

#[test]
fn an_existing_nat_with_another_address_is_reported() {
    let scene = Scene::deployed().answers(
        "gcloud compute routers nats describe *natIps*",
        "https://example.com/addresses/other",
    );
    let outcome = scene.run("network", &[]).expect_success();
    assert!(outcome.stderr.contains("does not use the address ip-worker-ip"), "{}", outcome.stderr);
    assert_eq!(outcome.changes().len(), 1, "the APIs");
}

#[test]
fn a_look_up_that_fails_for_another_reason_than_absence_creates_nothing() {
    let scene = Scene::fresh()
        .refuses("gcloud compute networks describe *", "PERMISSION_DENIED: compute.networks.get");
    let outcome = scene.run("network", &[]).expect_failure(&["PERMISSION_DENIED"]);
    assert_eq!(outcome.changes().len(), 1, "the APIs");
}

#[test]
fn cloud_build_may_push_and_gets_the_configuration_and_both_images() {
    let outcome = Scene::fresh().run("images", &[]).expect_success();
    for repository in ["rendezvous-repo", "ip-worker-repo"] {
        outcome.expect_call(
            &format!("gcloud artifacts repositories create {repository}"),
            &["--repository-format docker"],
        );
        outcome.expect_call(
            &format!("gcloud artifacts repositories add-iam-policy-binding {repository}"),
            &[
                "--member serviceAccount:builder@example.com",
                "--role roles/artifactregistry.writer",
            ],
        );
    }
    let registry = "us-central1-docker.pkg.dev/my-project";
    let images = format!(
        "_RENDEZVOUS_IMAGE={registry}/rendezvous-repo/rendezvous-service:latest,_WORKER_IMAGE={registry}/ip-worker-repo/ip-worker-service:latest"
    );
    let config = deploy_dir().join("cloudbuild.yaml");
    outcome.expect_call("gcloud builds submit", &[&format!("--config {}", config.display())]);
    let substitutions = format!(" --substitutions {images},_COMMIT=");
    let mut builds = outcome.calls.iter().filter(|call| call.contains("gcloud builds submit"));
    assert!(builds.any(|call| call.contains(&substitutions)), "{:?}", outcome.calls);
    assert!(
        !outcome.calls.iter().any(|call| call.contains("dockerfile")),
        "gcloud has no such option"
    );
}

#[test]
fn a_local_build_makes_both_images_for_amd64_and_pushes_them() {
    let outcome = Scene::deployed().run("images", &["--local"]).expect_success();
    outcome.expect_call("gcloud auth configure-docker us-central1-docker.pkg.dev", &["--quiet"]);
    let builds: Vec<&String> =
        outcome.calls.iter().filter(|call| call.starts_with("docker buildx build")).collect();
    assert_eq!(builds.len(), 2);
    for (build, role) in builds.iter().zip(["rendezvous", "worker"]) {
        assert!(
            build.contains(" --platform linux/amd64 ") && build.contains(" --push "),
            "{build}"
        );
        assert!(build.contains(" --build-arg HOLEPUNCH_COMMIT="), "{build}");
        assert!(build.contains(&format!("deploy/Dockerfile.{role} ")), "{build}");
    }
    assert!(
        !outcome.calls.iter().any(|call| call.starts_with("gcloud builds")),
        "nothing goes to Cloud Build"
    );
    Scene::fresh()
        .refuses("docker buildx version*", "unknown command")
        .run("images", &["--local"])
        .expect_failure(&["docker has no buildx"]);
}

#[test]
fn the_rendezvous_is_deployed_first_and_its_url_goes_to_the_workers() {
    let outcome = Scene::fresh().run("services", &[]).expect_success();
    outcome.expect_call(
        "gcloud run deploy rendezvous-service",
        &[
            "--image us-central1-docker.pkg.dev/my-project/rendezvous-repo/rendezvous-service:latest",
            "--allow-unauthenticated --min-instances=2 --max-instances=10",
            "--timeout=3600",
            "--no-cpu-throttling",
            "--vpc-egress=private-ranges-only --network=ip-worker-vpc --subnet=ip-worker-subnet",
            "--set-secrets=RELAY_KEY=rendezvous-relay-key:latest",
            &format!("--set-env-vars=^@^STUN_LISTEN=none@TRUSTED_PROXY=169.254.0.0/16,127.0.0.0/8@STORE=redis://{STORE_IP}:6379@NO_RELAY=true@RELAY_URL={RELAY_URL}@LOG_FORMAT=json"),
        ],
    );
    outcome.expect_call(
        "gcloud run deploy relay-service",
        &[
            "--command=/usr/local/bin/holepunch --args=relay",
            "--min-instances=1 --max-instances=1",
            "--set-secrets=RELAY_KEY=rendezvous-relay-key:latest",
            "--service-account=rendezvous-runtime@my-project.iam.gserviceaccount.com",
        ],
    );
    let environment = format!("--set-env-vars=^@^RENDEZVOUS_SERVICE_URL={URL}@LOG_FORMAT=json");
    outcome.expect_call(
        "gcloud run deploy ip-worker-service",
        &[
            "--no-allow-unauthenticated --min-instances=2 --max-instances=2",
            "--no-cpu-throttling",
            "--vpc-egress=all-traffic --network=ip-worker-vpc --subnet=ip-worker-subnet",
            &environment,
        ],
    );
    let rendezvous = outcome.place("gcloud run deploy rendezvous-service");
    let url = outcome.place("gcloud run services describe rendezvous-service");
    assert!(outcome.place("gcloud run services describe relay-service") < rendezvous);
    assert!(rendezvous < url && url < outcome.place("gcloud run deploy ip-worker-service"));
}

#[test]
fn several_instances_share_a_store_and_a_key_that_nobody_sees() {
    let outcome = Scene::fresh().run("store", &[]).expect_success();
    outcome.expect_call(
        "gcloud redis instances create rendezvous-store",
        &["--redis-version redis_7_2", "--network ip-worker-vpc"],
    );
    outcome.expect_call("gcloud secrets create rendezvous-relay-key", &["--data-file=-"]);
    outcome.expect_call(
        "gcloud secrets add-iam-policy-binding rendezvous-relay-key",
        &[
            "--member serviceAccount:rendezvous-runtime@my-project.iam.gserviceaccount.com",
            "--role roles/secretmanager.secretAccessor",
        ],
    );
    let all = format!("{}{}{:?}", outcome.stdout, outcome.stderr, outcome.calls);
    assert!(!all.contains(KEY), "{all}");
    let outcome = Scene::deployed().run("store", &[]).expect_success();
    assert_eq!(outcome.changes().len(), 1, "the account may read the key");
    let elsewhere = Scene::fresh().with("STORE", "rediss://redis.example.com");
    let outcome = elsewhere.run("store", &[]).expect_success();
    assert!(!outcome.calls.iter().any(|call| call.contains("redis instances")));
    let outcome = elsewhere.run("services", &[]).expect_success();
    let has_it = |call: &String| call.contains("STORE=rediss://redis.example.com");
    assert!(outcome.calls.iter().any(has_it));
}

#[test]
fn a_project_that_is_not_named_is_nobody_elses() {
    for name in SCRIPTS {
        let scene = Scene::fresh().with("PROJECT", "");
        let outcome = scene.run(name, &[]).expect_failure(&["no project is named", "--project"]);
        assert_eq!(outcome.calls, [""; 0], "{name}");
        scene.run(name, &["--help"]).expect_success();
    }
}

#[test]
fn workers_alone_can_join_a_rendezvous_elsewhere_with_variables_of_their_own() {
    let scene = Scene::fresh()
        .with("RENDEZVOUS_URL", "wss://elsewhere.example.com")
        .with("WORKER_ENV", "STUN_SERVERS=a:1,b:2 IP_ECHO_URL=https://ip.example.com");
    let outcome = scene
        .run("services", &["--worker-only", "--region=us-east1", "--project", "other"])
        .expect_success();
    assert_eq!(outcome.changes().len(), 1, "the workers' deployment");
    let environment = "--set-env-vars=^@^RENDEZVOUS_SERVICE_URL=wss://elsewhere.example.com@LOG_FORMAT=json@STUN_SERVERS=a:1,b:2@IP_ECHO_URL=https://ip.example.com";
    outcome.expect_call(
        "gcloud run deploy ip-worker-service",
        &[environment, "--project other --region us-east1"],
    );
}

#[test]
fn without_a_url_no_worker_is_deployed() {
    let scene = Scene::fresh().answers("gcloud run services describe rendezvous-service *", "");
    let outcome = scene.run("services", &[]).expect_failure(&["printed nothing", "status.url"]);
    assert!(
        !outcome.calls.iter().any(|call| call.starts_with("gcloud run deploy ip-worker-service"))
    );
}

#[test]
fn everything_runs_in_order_and_ends_at_the_first_failure() {
    let outcome = Scene::deployed().run("all", &[]).expect_success();
    let steps = [
        "gcloud services enable",
        "gcloud secrets add-iam-policy-binding",
        "gcloud builds submit",
        "gcloud run deploy rendezvous-service",
        "gcloud logging read",
    ];
    assert!(steps.map(|step| outcome.place(step)).is_sorted());

    let scene = Scene::deployed().refuses("gcloud builds submit *", "the build failed");
    let outcome =
        scene.run("all", &[]).expect_failure(&["the build failed", "deploy/images.sh failed"]);
    assert!(!outcome.calls.iter().any(|call| call.starts_with("gcloud run deploy")));
}

#[test]
fn a_dry_run_calls_nothing_needs_nothing_and_prints_what_the_real_run_calls() {
    let scene = Scene::fresh().without("gcloud").without("docker").without("curl").without("jq");
    for (name, options) in [
        ("network", vec![]),
        ("store", vec![]),
        ("images", vec![]),
        ("images", vec!["--local"]),
        ("services", vec![]),
    ] {
        let printed = scene.run(name, &[&options[..], &["--dry-run"]].concat()).expect_success();
        assert_eq!(printed.calls, [""; 0], "{name}");
        let pasted = Scene::fresh().bash(&["-c", &printed.stdout]).expect_success();
        let real = Scene::fresh().run(name, &options).expect_success();
        assert_eq!(pasted.changes(), real.changes(), "{name}");
    }
    let printed = scene.run("all", &["--dry-run"]).expect_success();
    assert_eq!(printed.calls, [""; 0]);
    for command in [
        "gcloud services enable",
        "gcloud builds submit",
        "gcloud run deploy",
        "curl",
        "gcloud logging read",
    ] {
        assert!(
            printed.stdout.contains(&format!("\n{command} ")),
            "{command} is not in:\n{}",
            printed.stdout
        );
    }
}

#[test]
fn tearing_down_asks_first_and_takes_workers_before_network() {
    let outcome = Scene::deployed().run("teardown", &[]).expect_failure(&["nothing was deleted"]);
    assert_eq!(outcome.changes(), [""; 0]);
    let outcome = Scene::deployed().run("teardown", &["--dry-run"]).expect_success();
    assert_eq!(outcome.calls, [""; 0]);
    let outcome = Scene::deployed().run("teardown", &["--yes", "--keep-images"]).expect_success();
    let order = [
        "run services delete ip-worker-service",
        "run services delete rendezvous-service",
        "run services delete relay-service",
        "redis instances delete rendezvous-store",
        "secrets delete rendezvous-relay-key",
        "iam service-accounts delete rendezvous-runtime@",
        "compute routers nats delete",
        "compute addresses delete",
        "compute routers delete",
        "compute networks subnets delete",
        "compute networks delete",
    ];
    assert!(order.map(|step| outcome.place(&format!("gcloud {step}"))).is_sorted());
    assert_eq!(outcome.changes().len(), order.len());
    assert_eq!(
        Scene::fresh()
            .answers("gcloud run services describe *", "")
            .run("teardown", &["--yes"])
            .expect_success()
            .changes()
            .len(),
        3,
        "the services"
    );
}

#[test]
fn a_missing_gcloud_a_missing_login_and_an_unknown_project_are_named() {
    for name in SCRIPTS {
        Scene::fresh()
            .without("gcloud")
            .run(name, &[])
            .expect_failure(&["gcloud is not installed", "https://cloud.google.com/sdk"]);
    }
    Scene::fresh()
        .answers("gcloud auth list *", "")
        .run("network", &[])
        .expect_failure(&["not logged in", "gcloud auth login"]);
    let scene = Scene::fresh().refuses("gcloud projects describe *", "NOT_FOUND");
    let outcome = scene
        .run("network", &[])
        .expect_failure(&["somebody@example.com cannot see the project my-project", "--project"]);
    assert_eq!(outcome.changes(), [""; 0]);
}

#[test]
fn both_images_share_their_builder_stage_and_do_not_run_as_root() {
    let stages = ["rendezvous", "worker"].map(|role| {
        let path = deploy_dir().join(format!("Dockerfile.{role}"));
        let text = fs::read_to_string(path).expect("the Dockerfile is there");
        let (builder, last) = text.split_once("\n\n# Debian 12").expect("there is a last stage");
        for line in ["USER 65532:65532", "EXPOSE 8080/tcp"] {
            assert!(last.lines().any(|l| l == line), "{line} is not in Dockerfile.{role}");
        }
        let entry = format!("ENTRYPOINT [\"/usr/local/bin/holepunch\", \"{role}\"]");
        assert_eq!(last.lines().last(), Some(entry.as_str()));
        builder[builder.find("FROM").expect("there is a builder stage")..].to_owned()
    });
    assert_eq!(stages[0], stages[1]);
    assert!(stages[0].contains("cargo build --release --locked -p holepunch-cli"));
}
