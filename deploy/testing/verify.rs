//! What `deploy/verify.sh` accepts and refuses. Part of the test `crates/cli/tests/deploy.rs`.

use super::scene::{NAT_IP, Scene, URL, list, python, worker};

#[test]
fn a_working_deployment_is_verified_with_jq_and_with_python() {
    let outcome = Scene::deployed().run("verify", &[]).expect_success();
    assert!(outcome.stderr.contains("4/4 link: ok"), "{}", outcome.stderr);
    outcome.expect_call(
        "gcloud logging read",
        &[r#""link"#, r#"resource.labels.revision_name="ip-worker-service-00001-abc""#],
    );
    let address = format!("{URL}/debug/list_workers");
    let polls: Vec<&String> = outcome.calls.iter().filter(|c| c.starts_with("curl ")).collect();
    assert!(polls.iter().all(|poll| poll.ends_with(&address)), "{polls:?}");
    assert_eq!(outcome.changes(), [""; 0]);
    let elsewhere = Scene::deployed().with("RENDEZVOUS_URL", "wss://elsewhere.example.com/");
    let outcome = elsewhere.run("verify", &[]).expect_success();
    assert!(outcome.stderr.contains("1/4 rendezvous: ok (https://elsewhere.example.com)"));
    if let Some(path) = python() {
        let scene = Scene::deployed().without("jq").without("python3");
        scene.link(&path, "python3");
        scene.run("verify", &[]).expect_success();
        let scene = scene.answers("curl *", &list(&[worker("a", NAT_IP)]));
        scene.run("verify", &[]).expect_failure(&["1 listed, 1 connected, 1 with a STUN endpoint"]);
    }
    let scene = Scene::deployed().without("jq").without("python3");
    scene.run("verify", &[]).expect_failure(&["neither jq nor python3"]);
}

#[test]
fn verifying_waits_until_both_workers_are_there() {
    let scene = Scene::deployed()
        .with("VERIFY_TIMEOUT_SEC", "20")
        .with("VERIFY_INTERVAL_SEC", "0.01")
        .refuses("curl#1 *", "connection refused")
        .answers("curl#3 *", &list(&[]))
        .answers("curl#4 *", &list(&[worker("a", NAT_IP)]))
        .answers("gcloud#6 logging read *", "instance-a");
    let outcome = scene.run("verify", &[]).expect_success();
    for progress in ["refused", "0 listed", "1 listed", "4/4 link: waiting (1 inst", "4/4 link: ok"]
    {
        assert!(outcome.stderr.contains(progress), "no {progress:?} in:\n{}", outcome.stderr);
    }
}

#[test]
fn workers_of_several_instances_count_together() {
    let scene = Scene::deployed()
        .with("VERIFY_LOOKS", "4")
        .answers("curl *", &list(&[worker("a", NAT_IP)]))
        .answers("curl#3 *", &list(&[worker("b", NAT_IP)]))
        .answers("curl#7 *", &list(&[worker("b", NAT_IP)]))
        .answers("curl#11 *", &list(&[worker("b", NAT_IP)]));
    let outcome = scene.run("verify", &[]).expect_success();
    assert!(outcome.stderr.contains("2/4 workers: ok (2 listed"), "{}", outcome.stderr);
}

#[test]
fn verifying_fails_at_the_step_that_is_not_met_and_says_what_to_do() {
    let two = [worker("a", NAT_IP), worker("b", NAT_IP)];
    let elsewhere = [worker("a", NAT_IP), worker("b", "198.51.100.9")];
    let no_stun = two.concat().replace(
        "\"203.0.113.7\",\"stun_reported_udp_port\":40000",
        "null,\"stun_reported_udp_port\":null",
    );
    let down = two.concat().replace("true", "false");
    for (answer, said) in [
        ("<html>sign in</html>".into(), ["1/4 rendezvous: FAILED", "not a list of workers"]),
        (list(&[]), ["2/4 workers: FAILED", "0 listed"]),
        (
            list(&two[..1]),
            ["2/4 workers: FAILED", "1 listed, 1 connected, 1 with a STUN endpoint; 2 needed"],
        ),
        (list(&[down.replace("}\"b", "},\"b")]), ["2/4 workers: FAILED", "2 listed, 0 connected"]),
        (
            list(&[no_stun.replace("}\"b", "},\"b")]),
            ["2/4 workers: FAILED", "2 connected, 0 with a STUN endpoint"],
        ),
        (
            list(&[worker("a\\\\n b", "1.1.1.1 true\\\\n")]),
            ["2/4 workers: FAILED", "1 listed, 1 connected"],
        ),
        (
            list(&elsewhere),
            [
                "3/4 address: FAILED",
                "1 of 2 workers seen with 203.0.113.7 (all: 203.0.113.7 198.51.100.9)",
            ],
        ),
    ] {
        let outcome = Scene::deployed().answers("curl *", &answer).run("verify", &[]);
        outcome.expect_failure(&said).expect_failure(&["what to do:\n  - "]);
    }
}

#[test]
fn verifying_fails_when_the_link_was_not_logged_on_both_sides() {
    for (log, found) in [("", "0 instances"), ("instance-a\\ninstance-a", "1 instances")] {
        let scene = Scene::deployed().answers("gcloud logging read *", log);
        scene.run("verify", &[]).expect_failure(&[
            "4/4 link: FAILED",
            found,
            "If the workers do not link",
        ]);
    }
    let scene = Scene::deployed().refuses("gcloud logging read *", "PERMISSION_DENIED");
    scene.run("verify", &[]).expect_failure(&["the log cannot be read: PERMISSION_DENIED"]);
    let scene = Scene::deployed().refuses("curl *", "curl: (22) 403");
    scene
        .run("verify", &[])
        .expect_failure(&["1/4 rendezvous: FAILED", "no answer: curl: (22) 403"]);
}
