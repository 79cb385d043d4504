use super::*;

fn parsed(text: &str) -> Result<ConfigFile, Failure> {
    let (file, faults) = ConfigFile::parse(PathBuf::from("/x/config.toml"), text);
    faults.into_iter().next().map_or(Ok(file), Err)
}

#[test]
fn every_setting_is_read_and_a_list_is_as_in_a_variable() {
    let text = "rendezvous = \"https://a.example\" # ours\nstun_servers = [\"a:1\", \"b\"]\nidentity = \"default\"\n\
                room_secret_file = \"/s\"\nname = \"Ada\"\n";
    let file = parsed(text).unwrap();
    assert_eq!(file.get("RENDEZVOUS_SERVICE_URL"), Some("https://a.example"));
    assert_eq!(file.get("STUN_SERVERS"), Some("a:1,b"));
    let all = ["IDENTITY", "ROOM_SECRET_FILE", "CHAT_NAME"].map(|name| file.get(name));
    assert_eq!(all, [Some("default"), Some("/s"), Some("Ada")]);
    assert_eq!(file.default_identity(), Some(PathBuf::from("/x/identity.pem")));
}

#[test]
fn what_is_no_setting_is_an_error_that_names_the_file_and_what_is_expected() {
    for (text, words) in [
        ("rendezvous = ", "is not TOML"),
        (
            "rendezvos = \"x\"",
            "\"rendezvos\", which is no setting of it (did you mean `rendezvous`?): expected rendezvous, ",
        ),
        ("lissten = \"x\"", "(did you mean `listen`?)"),
        ("max-workers = 5", "(did you mean `max_workers`?)"),
        ("quux = 5", "which is no setting of it: expected"),
        ("name = 5", "name in the settings file /x/config.toml: expected a text"),
        ("stun_servers = [1]", "expected a list of texts"),
        ("[rendezvous]\nurl = \"x\"", "expected all settings at the top level"),
        ("rendezvous = { url = \"x\" }", "expected all settings at the top level"),
        ("rendezvous.url = \"x\"", "expected all settings at the top level"),
        ("[[server]]\nlisten = \"x\"", "expected all settings at the top level"),
    ] {
        let failure = parsed(text).unwrap_err();
        assert!(failure.is_usage() && failure.why().contains(words), "{text}: {failure:?}");
        assert!(failure.why().contains("/x/config.toml") && !failure.why().contains('\n'));
    }
}

#[test]
fn a_service_has_its_settings_by_the_names_of_its_flags() {
    let text = "listen = \"[::]:443\"\nmax_workers = 5\nping_interval_sec = 0.5\nno_listing = true\n\
                trusted_proxy = [\"10.0.0.0/8\", \"::1\"]\n";
    let file = parsed(text).unwrap();
    let variables = ["LISTEN", "MAX_WORKERS", "PING_INTERVAL_SEC", "NO_LISTING", "TRUSTED_PROXY"];
    let expected = ["[::]:443", "5", "0.5", "true", "10.0.0.0/8,::1"].map(Some);
    assert_eq!(variables.map(|name| file.get(name)), expected);
    assert!(file.place("LISTEN").starts_with("listen in"));
}

#[test]
fn all_that_is_wrong_with_a_file_is_found() {
    let text = "no_such = 1\nname = 5\nmax_workers = 5\nlisten = 1979-05-27\n";
    let (file, faults) = ConfigFile::parse(PathBuf::from("/x"), text);
    assert_eq!(file.get("MAX_WORKERS"), Some("5"));
    let named = ["\"no_such\"", "name", "listen"];
    assert_eq!(faults.len(), named.len());
    assert!(faults.iter().zip(named).all(|(fault, name)| fault.why().contains(name)));
    let text = "[rendezvous]\nno_such = 1\nmax_workers = \"abc\"\n[relay]\nname = 5\n";
    let (file, faults) = ConfigFile::parse(PathBuf::from("/x"), text);
    assert_eq!(file.get("MAX_WORKERS"), Some("abc"), "what reads it finds it wrong as well");
    let named = ["a table \"rendezvous\"", "\"no_such\"", "a table \"relay\"", "name in"];
    assert_eq!(faults.len(), named.len());
    assert!(faults.iter().zip(named).all(|(fault, name)| fault.why().contains(name)), "{faults:?}");
}

#[test]
fn the_file_is_that_of_the_flag_or_of_the_variable_or_of_the_user() {
    let folder = tempfile::tempdir().unwrap();
    let home = folder.path().to_str().unwrap();
    let variables = [("HOME", home)];
    let of = |name: &str| {
        variables.iter().find(|(it, _)| *it == name).map(|(_, value)| (*value).to_owned())
    };
    let file = ConfigFile::read(None, of).unwrap();
    assert_eq!(file.path, Some(folder.path().join(".config/holepunch/config.toml")));
    let xdg = ConfigFile::read(None, |name| {
        (name == "XDG_CONFIG_HOME").then(|| "relative".to_owned()).or_else(|| of(name))
    });
    assert_eq!(xdg.unwrap().path, file.path, "a relative path is to be ignored");
    let missing = ConfigFile::read(Some("/no/such/file".into()), of).unwrap_err();
    assert!(missing.is_usage() && missing.why().contains("/no/such/file"), "{missing:?}");
    let named =
        ConfigFile::read(None, |name| (name == PATH_VARIABLE).then(|| "/no/such/other".to_owned()));
    assert!(named.unwrap_err().why().contains("/no/such/other"));
    assert_eq!(ConfigFile::read(None, |_| None).unwrap(), ConfigFile::default());
}

#[test]
fn a_file_that_is_too_long_is_not_read() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("long");
    std::fs::write(&path, "#".repeat(70_000)).unwrap();
    assert!(ConfigFile::read(Some(path), |_| None).unwrap_err().why().contains("longer than"));
}

#[test]
fn one_setting_is_written_and_the_rest_stays() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a/b/config.toml");
    write(&path, &[("rendezvous", Some("https://a.example"))]).unwrap();
    std::fs::write(&path, "# mine\nname = \"Ada\"   # me\nrendezvous = \"https://a.example\"\n")
        .unwrap();
    let settings = [("rendezvous", Some("https://u:\"p\"@b.example")), ("token", None)];
    write(&path, &settings).unwrap();
    let text = std::fs::read_to_string(&path).unwrap();
    assert!(text.starts_with("# mine\nname = \"Ada\"   # me\n"), "{text}");
    let file = ConfigFile::read(Some(path.clone()), |_| None).unwrap();
    assert_eq!(file.get("RENDEZVOUS_SERVICE_URL"), Some("https://u:\"p\"@b.example"));
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&path), mode(&folder.path().join("a/b"))), (0o600, 0o700));
    }
    std::fs::write(&path, "not toml").unwrap();
    assert!(write(&path, &[("name", Some("x"))]).is_err(), "nothing of a person's is lost");
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "not toml");
}
