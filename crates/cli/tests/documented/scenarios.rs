//! What the documents tell people to run, run: two machines and a rendezvous, on loopback.
//!
//! Each scenario has its commands as the documents have them, to the letter (`commands` compares), and fills in what stands
//! for something else: codes, files, addresses.

use std::net::SocketAddr;

use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;

use crate::common::{Served, within};
use crate::shell::Machine;

/// What stands for a code in the documents.
const CODE: &str = "7-guitar-fox";

/// Somebody who listens and types nothing: an input that stays open until the line is stopped.
const SILENT: &str = "sleep 600";

/// The commands of all scenarios.
pub(crate) const ALL: [&[&str]; 12] = [
    &FILE,
    &FOLDER,
    &FORWARD,
    &CHAT,
    &ROOM,
    &PIPE,
    &BENCH,
    &SERVICES,
    &CONTAINER,
    &ONE_MACHINE,
    &TURN,
    &LAB,
];

const FILE: [&str; 3] = [
    "holepunch login https://rendezvous.example",
    "holepunch send FILE",
    "holepunch receive 7-guitar-fox",
];
const FOLDER: [&str; 2] =
    ["holepunch send photos/ notes.txt", "holepunch receive 7-guitar-fox incoming/"];
const FORWARD: [&str; 2] = [
    "holepunch forward --allow 127.0.0.1:22",
    "holepunch forward 7-guitar-fox -L 2222:127.0.0.1:22",
];
const CHAT: [&str; 2] = ["holepunch chat --name Ada", "holepunch chat 7-guitar-fox"];
const ROOM: [&str; 2] = [
    "echo \"build 7 is done\" | holepunch chat --room builds --json",
    "holepunch pipe --room x --why",
];
const PIPE: [&str; 2] =
    ["tar c photos | holepunch pipe", "holepunch pipe 7-guitar-fox < /dev/null | tar x"];
const BENCH: [&str; 3] = [
    "holepunch bench",
    "holepunch bench 7-guitar-fox",
    "holepunch bench --room x --seconds 2 --json",
];
const SERVICES: [&str; 2] = [
    "holepunch rendezvous",
    "RENDEZVOUS_SERVICE_URL=http://rendezvous.example:8080 holepunch worker",
];
const CONTAINER: [&str; 1] =
    ["RENDEZVOUS_SERVICE_URL=https://rendezvous.example holepunch worker --room my-job"];
const ONE_MACHINE: [&str; 1] = [
    "RENDEZVOUS_SERVICE_URL=http://127.0.0.1:8080 STUN_SERVERS=127.0.0.1:3478 IP_ECHO_URL=none PORT=0 \
     INTERNAL_UDP_PORT_ENV=0 holepunch worker",
];
const TURN: [&str; 1] =
    ["TURN_SECRET=SECRET holepunch rendezvous --turn turn:turn.example.com:3478"];
const LAB: [&str; 3] = [
    "holepunch lab --pair eim-apdf,hard-apdf-random",
    "holepunch lab --pair eim-apdf,hard-apdf-block512 --seed 48 --trace",
    "holepunch lab --matrix --kinds eim-apdf,remap",
];

/// A rendezvous, and two machines that know it.
struct Scene {
    served: Served,
    machines: [Machine; 2],
}

impl Scene {
    async fn start() -> Self {
        let served = Served::start().await;
        let stun = served.addresses().1.to_owned();
        let url = format!("http://{}", served.addresses().0);
        let machine = || Machine::new(&stun).with("RENDEZVOUS_SERVICE_URL", &url);
        let machines = [machine(), machine()];
        Self { served, machines }
    }

    /// A command with the real rendezvous in it.
    fn filled(&self, command: &str) -> String {
        let (http, stun) = self.served.addresses();
        let url = format!("http://{http}");
        ["https://rendezvous.example", "http://rendezvous.example:8080", "http://127.0.0.1:8080"]
            .iter()
            .fold(command.to_owned(), |line, place| line.replace(place, &url))
            .replace("127.0.0.1:3478", stun)
    }
}

/// A command with something in the place of what stands for it, which has to be there.
fn fill(command: &str, places: &[(&str, &str)]) -> String {
    places.iter().fold(command.to_owned(), |line, (place, real)| {
        assert!(line.contains(place), "{line:?} has no {place:?}");
        line.replace(place, real)
    })
}

#[tokio::test]
async fn a_file_is_sent_to_whoever_has_the_code() {
    let scene = Scene::start().await;
    let stun = scene.served.addresses().1;
    let [here, there] = [Machine::new(stun), Machine::new(stun)];
    for machine in [&here, &there] {
        machine.run(&scene.filled(FILE[0])).succeeds().await;
    }
    std::fs::write(here.path("notes"), "what was sent").unwrap();
    let mut sender = here.run(&fill(FILE[1], &[("FILE", "notes")]));
    let code = sender.code("receive").await;
    there.run(&fill(FILE[2], &[(CODE, &code)])).succeeds().await;
    sender.succeeds().await;
    assert_eq!(std::fs::read_to_string(there.path("notes")).unwrap(), "what was sent");
}

#[tokio::test]
async fn a_folder_and_a_file_are_received_into_a_folder() {
    let Scene { machines: [here, there], served: _served } = Scene::start().await;
    std::fs::create_dir(here.path("photos")).unwrap();
    std::fs::write(here.path("photos/one"), "1").unwrap();
    std::fs::write(here.path("notes.txt"), "2").unwrap();
    let mut sender = here.run(FOLDER[0]);
    let code = sender.code("receive").await;
    there.run(&fill(FOLDER[1], &[(CODE, &code)])).succeeds().await;
    sender.succeeds().await;
    for (name, content) in [("incoming/photos/one", "1"), ("incoming/notes.txt", "2")] {
        assert_eq!(std::fs::read_to_string(there.path(name)).unwrap(), content);
    }
}

#[tokio::test]
async fn a_port_of_a_machine_is_reached_from_the_other_one() {
    let Scene { machines: [here, there], served: _served } = Scene::start().await;
    // In the place of SSH's server.
    let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = format!("127.0.0.1:{}", server.local_addr().unwrap().port());
    let mut allowing = here.run(&fill(FORWARD[0], &[("127.0.0.1:22", &port)]));
    let code = allowing.code("forward").await;
    // On any free port.
    let pair = format!("--listen 127.0.0.1:0 --to {port}");
    let places = [(CODE, code.as_str()), ("-L 2222:127.0.0.1:22", pair.as_str())];
    let mut listening = there.run(&format!("{} --json", fill(FORWARD[1], &places)));
    let told = listening.program.out.line("\"listening\"").await;
    let told: serde_json::Value = serde_json::from_str(&told).unwrap();
    let address: SocketAddr = told["address"].as_str().unwrap().parse().unwrap();
    listening.program.out.line("\"linked\"").await;
    let mut client = within("the listener", tokio::net::TcpStream::connect(address)).await.unwrap();
    let (mut accepted, _) = within("the connection", server.accept()).await.unwrap();
    accepted.write_all(b"SSH-2.0-here").await.unwrap();
    drop(accepted);
    let mut banner = String::new();
    let read = tokio::io::AsyncReadExt::read_to_string(&mut client, &mut banner);
    within("the banner", read).await.unwrap();
    assert_eq!(banner, "SSH-2.0-here");
    listening.stop();
    allowing.stop();
}

#[tokio::test]
async fn two_chat_by_a_code() {
    let Scene { machines: [here, there], served: _served } = Scene::start().await;
    let mut host = here.run(&format!("echo hello | {}", CHAT[0]));
    let code = host.code("chat").await;
    let mut guest = there.run(&format!("{SILENT} | {}", fill(CHAT[1], &[(CODE, &code)])));
    guest.program.out.line("Ada: hello").await;
    host.succeeds().await;
    guest.stop();
}

#[tokio::test]
async fn two_meet_in_a_room() {
    let Scene { machines, served: _served } = Scene::start().await;
    let mut listener = machines[0].run(&format!("{SILENT} | holepunch chat --room builds --json"));
    let speaker = machines[1].run(ROOM[0]);
    let told = listener.program.out.line("\"message\"").await;
    assert!(told.contains("build 7 is done"), "{told}");
    speaker.succeeds().await;
    listener.stop();
    let [one, other] = machines.each_ref().map(|machine| machine.run(ROOM[1]));
    for ended in [one.succeeds().await, other.succeeds().await] {
        assert!(ended.err.contains("LINKED"), "it tells the history: {ended:?}");
    }
}

#[tokio::test]
async fn a_folder_goes_through_a_pipe() {
    let Scene { machines: [here, there], served: _served } = Scene::start().await;
    std::fs::create_dir(here.path("photos")).unwrap();
    std::fs::write(here.path("photos/one"), "1").unwrap();
    let mut sender = here.run(PIPE[0]);
    let code = sender.code("pipe").await;
    there.run(&fill(PIPE[1], &[(CODE, &code)])).succeeds().await;
    sender.succeeds().await;
    assert_eq!(std::fs::read_to_string(there.path("photos/one")).unwrap(), "1");
}

#[tokio::test]
async fn a_link_is_measured() {
    let Scene { machines: [here, there], served: _served } = Scene::start().await;
    // As short as can be: what counts is that both have results.
    let mut host = here.run(&format!("{} --seconds 1", BENCH[0]));
    let code = host.code("bench").await;
    let guest = there.run(&format!("{} --seconds 1", fill(BENCH[1], &[(CODE, &code)])));
    for ended in [guest.succeeds().await, host.succeeds().await] {
        assert!(ended.out.contains("to the peer"), "{ended:?}");
    }
    let [one, other] = [&here, &there].map(|machine| machine.run(BENCH[2]));
    for ended in [one.succeeds().await, other.succeeds().await] {
        let result: serde_json::Value = serde_json::from_str(ended.out.trim()).unwrap();
        assert!(result["to_peer"].is_object(), "{result}");
    }
}

#[tokio::test]
async fn the_two_services_link_two_workers() {
    let machine = Machine::new("127.0.0.1:9");
    let mut rendezvous = machine.run(&format!("{} --listen 127.0.0.1:0", SERVICES[0]));
    let running = rendezvous.program.log.entry("rendezvous is running").await;
    let url = format!("http://{}", running["http"].as_str().unwrap());
    let stun = running["stun"].as_str().unwrap().trim_matches(['[', ']']).to_owned();
    let machines = [Machine::new(&stun), Machine::new(&stun)];
    let line = fill(SERVICES[1], &[("http://rendezvous.example:8080", &url)]);
    linked(machines.each_ref().map(|machine| machine.run(&line))).await;
    rendezvous.stop();
}

/// Waits until both workers have a link.
async fn linked(workers: [crate::shell::Line; 2]) {
    for mut worker in workers {
        worker.program.log.entry("link established").await;
        worker.stop();
    }
}

#[tokio::test]
async fn two_workers_of_a_room_are_linked() {
    let scene = Scene::start().await;
    let line = scene.filled(CONTAINER[0]);
    linked(scene.machines.each_ref().map(|machine| machine.run(&line))).await;
}

#[tokio::test]
async fn two_workers_of_one_machine_are_linked() {
    let scene = Scene::start().await;
    let line = scene.filled(ONE_MACHINE[0]);
    let [machine, _] = &scene.machines;
    linked([machine.run(&line), machine.run(&line)]).await;
}

#[tokio::test]
async fn a_rendezvous_tells_of_a_turn_server() {
    let machine = Machine::new("127.0.0.1:9");
    let mut rendezvous = machine.run(&format!("{} --listen 127.0.0.1:0", TURN[0]));
    rendezvous.program.log.entry("rendezvous is running").await;
    rendezvous.stop();
}

#[tokio::test]
async fn the_laboratory_plays_pairs() {
    let machine = Machine::new("127.0.0.1:9");
    let played = LAB.map(|command| machine.run(command));
    for line in played {
        let ended = line.succeeds().await;
        assert!(!ended.out.is_empty(), "{ended:?}");
    }
}
