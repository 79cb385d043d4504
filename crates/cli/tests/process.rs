//! Command line and environment: what is wrong with them is said, with exit code 2; what cannot be
//! done, with exit code 1.

#![cfg(unix)]
#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use common::{Program, Scene, loopback, within};

/// What a worker needs at least.
const URL: (&str, &str) = ("RENDEZVOUS_SERVICE_URL", "http://127.0.0.1:9");

#[tokio::test]
async fn a_worker_without_the_url_of_a_rendezvous_ends_with_a_usage_error_that_names_it() {
    for variables in [&[][..], &[("RENDEZVOUS_SERVICE_URL", "")]] {
        let ended = Program::end_of(&["worker"], variables).await;
        assert_eq!(ended.code, Some(2), "{ended:?}");
        assert!(ended.err.contains("RENDEZVOUS_SERVICE_URL"), "{}", ended.err);
        assert!(ended.err.contains("--rendezvous-url"), "{}", ended.err);
        assert_eq!(ended.out, "");
    }
}

#[tokio::test]
async fn a_result_that_goes_to_a_file_beyond_the_limit_of_sizes_is_a_failure_with_a_reason() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("result");
    let command = format!("invite --json --rendezvous-url {} > '{}'", URL.1, file.display());
    let ended = Program::run_under("-f 0", &command).end().await;
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(ended.err.contains("cannot write the output: File too large"), "{}", ended.err);
}

#[tokio::test]
async fn invite_writes_the_words_into_a_file_of_its_owner_alone_and_over_none_that_is_there() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("words");
    let file = path.to_str().unwrap();
    let words = || std::fs::read_to_string(&path).unwrap();
    let ended = Program::end_of(&["invite", "--secret-file", file], &[URL]).await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let first = words();
    assert!(first.ends_with('\n') && first.split_whitespace().count() == 6, "{first:?}");
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    assert!(!ended.out.contains(first.trim()), "{}", ended.out);
    for part in [format!("ROOM_SECRET_FILE={file} holepunch forward --allow "), " -L ".to_owned()] {
        assert!(ended.out.contains(&part), "{part}: {}", ended.out);
    }

    let ended = Program::end_of(&["invite", "--secret-file", file], &[URL]).await;
    assert_eq!((ended.code, &*ended.out), (Some(2), ""), "{ended:?}");
    assert!(ended.err.contains(file) && ended.err.contains("--force"), "{}", ended.err);
    assert_eq!(words(), first);

    let arguments = ["invite", "--secret-file", file, "--force", "--json"];
    let ended = Program::end_of(&arguments, &[URL]).await;
    let told: serde_json::Value = serde_json::from_str(&ended.out).unwrap();
    assert_eq!((&told["room_secret_file"], &told["room_secret"]), (&file.into(), &().into()));
    assert_ne!(words(), first);
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "nothing is left beside it");
}

#[tokio::test]
async fn a_url_that_can_never_work_ends_the_worker_with_a_usage_error() {
    for url in ["ftp://host", "http://", "ws://:80", "http://host:99999", "a b", "http://h/#f"] {
        let ended = Program::end_of(&["worker"], &[("RENDEZVOUS_SERVICE_URL", url)]).await;
        assert_eq!(ended.code, Some(2), "{url}: {ended:?}");
        assert!(ended.err.contains("RENDEZVOUS_SERVICE_URL"), "{url}: {}", ended.err);
    }
}

#[tokio::test]
async fn a_variable_that_makes_no_sense_is_a_usage_error_that_names_it() {
    for (name, value) in [
        ("INTERNAL_UDP_PORT_ENV", "70000"),
        ("INTERNAL_UDP_PORT_ENV", "udp"),
        ("PORT", "-1"),
        ("PORT", "http"),
        ("PING_INTERVAL_SEC", "0"),
        ("PING_INTERVAL_SEC", "soon"),
        ("PING_TIMEOUT_SEC", "-5"),
        ("STUN_PORT_ENV", "0x10"),
        ("STUN_PORT", "0"),
        ("STUN_HOST_ENV", "two words"),
        ("STUN_MAX_RETRIES", "-1"),
        ("STUN_RETRY_DELAY_SEC", "nan"),
        ("STUN_SERVERS", "host:port"),
        ("IP_ECHO_URL", "not a url"),
        ("WORKER_ID", "tab\there"),
        ("LOG_FORMAT", "xml"),
        ("RUST_LOG", "a=b=c"),
    ] {
        let ended = Program::end_of(&["worker"], &[URL, (name, value)]).await;
        assert_eq!(ended.code, Some(2), "{name}={value}: {ended:?}");
        assert!(ended.err.contains(name), "{name}={value}: {}", ended.err);
    }
}

#[tokio::test]
async fn a_flag_that_makes_no_sense_is_a_usage_error() {
    for arguments in [
        &["worker", "--port", "http"][..],
        &["worker", "--nonsense"],
        &["worker", "--rendezvous-url"],
        &["nonsense"],
        &[],
    ] {
        let ended = Program::end_of(arguments, &[URL]).await;
        assert_eq!(ended.code, Some(2), "{arguments:?}: {ended:?}");
        assert_eq!(ended.out, "", "{arguments:?}");
    }
}

#[tokio::test]
async fn an_empty_variable_counts_as_not_set() {
    let mut scene = Scene::start(&[
        ("STUN_HOST_ENV", ""),
        ("STUN_HOST", ""),
        ("STUN_PORT_ENV", ""),
        ("STUN_PORT", " "),
        ("STUN_MAX_RETRIES", ""),
        ("STUN_RETRY_DELAY_SEC", ""),
        ("PING_INTERVAL_SEC", ""),
        ("PING_TIMEOUT_SEC", ""),
        ("WORKER_ID", ""),
        ("LOG_FORMAT", ""),
        ("RUST_LOG", ""),
    ])
    .await;
    let (session, _) = scene.report().await;
    let starts = scene.worker.log.entry("worker starts").await;
    assert_eq!(session.worker_id().len(), 36, "a fresh UUID");
    assert_eq!(starts["worker"], session.worker_id());
}

#[tokio::test]
async fn a_flag_wins_over_its_variable() {
    let arguments = ["worker", "--worker-id", "of-the-flag", "--internal-udp-port", "0"];
    let scene = Scene::with(&arguments, &[("WORKER_ID", "x"), ("INTERNAL_UDP_PORT_ENV", "")]).await;
    assert_eq!(scene.rendezvous.accept().await.worker_id(), "of-the-flag");
}

#[tokio::test]
async fn a_health_port_that_is_taken_ends_the_worker_with_an_error_that_names_port() {
    let taken = tokio::net::TcpListener::bind(loopback()).await.unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let ended = Program::end_of(&["worker"], &[URL, ("PORT", &port)]).await;
    assert_eq!(ended.code, Some(1), "{ended:?}");
    let last = ended.err.lines().last().unwrap();
    assert!(last.contains("PORT (--port)") && last.contains(&port), "{}", ended.err);
}

#[tokio::test]
async fn every_command_has_a_help_with_an_example() {
    let all = Program::end_of(&["--help"], &[]).await;
    assert_eq!(all.code, Some(0), "{all:?}");
    assert!(all.out.contains("Exit codes: "), "{}", all.out);
    for command in commands().await {
        let name = ["holepunch"].into_iter().chain(command.iter().map(String::as_str));
        let name = name.collect::<Vec<_>>().join(" ");
        let arguments: Vec<&str> = command.iter().map(String::as_str).chain(["--help"]).collect();
        let help = Program::end_of(&arguments, &[]).await;
        assert_eq!(help.code, Some(0), "{help:?}");
        assert!(help.out.contains(&format!("Usage: {name}")), "{}", help.out);
        let (_, examples) = help.out.split_once("\nExample").expect(&name);
        assert!(examples.contains(&name), "{}", help.out);
        assert_eq!(help.err, "");
    }
}

/// All commands, with those of commands, as the help names them; the first is `holepunch` itself.
async fn commands() -> Vec<Vec<String>> {
    let mut all = vec![Vec::new()];
    let mut next = 0;
    while let Some(command) = all.get(next).cloned() {
        next += 1;
        let arguments: Vec<&str> = command.iter().map(String::as_str).chain(["-h"]).collect();
        let help = Program::end_of(&arguments, &[]).await.out;
        let Some((_, listed)) = help.split_once("\nCommands:\n") else { continue };
        let lines = listed.lines().take_while(|line| line.starts_with("  "));
        let names = lines.filter_map(|line| line.strip_prefix("  ")?.split(' ').next());
        for name in names.filter(|name| !name.is_empty() && *name != "help") {
            all.push(command.iter().cloned().chain([name.to_owned()]).collect());
        }
    }
    assert!(all.len() > 20, "{all:?}");
    all
}

#[tokio::test]
async fn a_short_help_is_one_page_with_the_programs_own_flags_first() {
    for command in commands().await {
        let arguments: Vec<&str> = command.iter().map(String::as_str).chain(["-h"]).collect();
        let help = Program::end_of(&arguments, &[("COLUMNS", "80")]).await;
        let lines: Vec<&str> = help.out.lines().collect();
        assert!(lines.len() <= 40, "{} lines: {}", lines.len(), help.out);
        let longest = lines.iter().max_by_key(|line| line.chars().count()).unwrap();
        assert!(longest.chars().count() <= 80, "{longest}");
        let at = |heading: &str| lines.iter().position(|line| *line == heading);
        let own = at("Options:").expect("there is --help at least");
        for heading in ["Meeting:", "Network:", "Logging:"] {
            assert!(at(heading).is_none_or(|at| at > own), "{}", help.out);
        }
    }
}

#[tokio::test]
async fn the_manual_has_a_page_for_each_command_and_shells_can_complete_all_of_them() {
    let folder = tempfile::tempdir().unwrap();
    let pages = folder.path().join("man1");
    let ended = Program::end_of(&["man", pages.to_str().unwrap()], &[]).await;
    assert_eq!((ended.code, &*ended.out, &*ended.err), (Some(0), "", ""));
    for command in commands().await {
        let name =
            ["holepunch".to_owned()].into_iter().chain(command).collect::<Vec<_>>().join("-");
        let page = std::fs::read_to_string(pages.join(format!("{name}.1"))).expect(&name);
        assert!(page.contains(".SH SYNOPSIS") && page.contains("xample"), "{name}: {page}");
        assert!(!page.contains("\n\n.TP"), "an option without a word: {page}");
        let section = |name: &str| {
            let text = page.split_once(&format!(".SH {name}\n"))?.1;
            Some(text.split(".SH ").next()?.lines().next()?.to_owned())
        };
        let named = section("NAME").unwrap();
        let (_, about) = named.split_once(" \\- ").unwrap();
        let is_repeated = section("DESCRIPTION").is_some_and(|text| text.starts_with(about));
        assert!(!is_repeated, "{name}: its description begins with {about:?} as well");
        let synopsis = section("SYNOPSIS").unwrap();
        assert!(synopsis.contains(r"[\fB\-\-log\fR \fIFILTER\fR]"), "{name}: {synopsis}");
    }
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let ended = Program::end_of(&["completions", shell], &[]).await;
        assert!(ended.code == Some(0) && ended.out.contains("give-up-after-sec"), "{ended:?}");
        assert_eq!(ended.err, "");
    }
    let begun =
        [("load r", "relay"), ("rece", "receive"), ("chat --room-secret-f", "--room-secret-file")];
    for (begun, completed) in begun {
        assert_eq!(completed_by_bash(begun).await, completed);
    }
    let page = Program::end_of(&["man"], &[]).await.out;
    assert!(page.contains(".TH holepunch 1"), "{page}");
}

#[tokio::test]
async fn the_help_of_the_worker_names_every_variable_of_the_baseline() {
    let help = Program::end_of(&["worker", "--help"], &[]).await.out;
    for name in [
        "RENDEZVOUS_SERVICE_URL",
        "PORT",
        "STUN_HOST_ENV",
        "STUN_HOST",
        "STUN_PORT_ENV",
        "STUN_PORT",
        "STUN_MAX_RETRIES",
        "STUN_RETRY_DELAY_SEC",
        "INTERNAL_UDP_PORT_ENV",
        "PING_INTERVAL_SEC",
        "PING_TIMEOUT_SEC",
    ] {
        assert!(help.contains(&format!("[env: {name}]")) || help.contains(&format!(" {name}")));
    }
}

#[tokio::test]
async fn the_version_is_that_of_the_package() {
    let own = format!("holepunch {}", env!("CARGO_PKG_VERSION"));
    let ended = Program::end_of(&["--version"], &[]).await;
    let lines: Vec<&str> = ended.out.lines().collect();
    assert_eq!((ended.code, lines[0]), (Some(0), own.as_str()));
    let starts = ["commit      ", "rendezvous  holepunch.v1, baseline", "links       holepunch/1"];
    for (line, start) in lines[1..].iter().zip(starts) {
        assert!(line.starts_with(start) && line.len() > starts[0].len(), "{line}");
    }
    assert!(lines[4].starts_with("programs    bench 1, chat 1, forward 2"), "{}", ended.out);
    let short = Program::end_of(&["send", "-V"], &[]).await.out;
    let start = own.replace("holepunch", "holepunch-send");
    assert!(short.starts_with(&format!("{start} (commit ")) && !short.contains('\n'), "{short}");
}

#[tokio::test]
async fn a_result_that_cannot_be_written_is_a_failure_and_a_reader_that_has_gone_is_none() {
    let run = |arguments: &[&str], out: std::process::Stdio| {
        let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_holepunch"));
        command.args(arguments).env_clear().stdout(out).stderr(std::process::Stdio::piped());
        async move { within("its end", command.spawn().unwrap().wait_with_output()).await.unwrap() }
    };
    for arguments in [
        &["invite", "--rendezvous-url", "a.example"][..],
        &["invite", "--json", "--rendezvous-url", "a.example"],
        &["--help"],
    ] {
        let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
        let ended = run(arguments, full.into()).await;
        let said = String::from_utf8_lossy(&ended.stderr);
        assert_eq!(ended.status.code(), Some(1), "{arguments:?}: {said}");
        assert!(said.contains("cannot write the output: No space left"), "{arguments:?}: {said}");
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let ended = run(arguments, writer.into()).await;
        let said = String::from_utf8_lossy(&ended.stderr);
        assert_eq!((ended.status.code(), &*said), (Some(0), ""), "{arguments:?}");
    }
}

/// What bash makes of the last word of a command line that is begun so.
async fn completed_by_bash(begun: &str) -> String {
    let script = r#"source <("$0" completions bash) && COMP_WORDS=(holepunch $1) && COMP_CWORD=$((${#COMP_WORDS[@]} - 1)) \
        && _holepunch holepunch "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD - 1]}"; echo "${COMPREPLY[*]}""#;
    let mut bash = tokio::process::Command::new("bash");
    bash.args(["-c", script, env!("CARGO_BIN_EXE_holepunch"), begun]);
    let output = within("bash", bash.output()).await.unwrap();
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}
