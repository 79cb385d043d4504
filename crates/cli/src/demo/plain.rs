//! `holepunch demo --plain`: a rendezvous with STUN and two workers, linked on loopback.

use std::net::{Ipv4Addr, SocketAddr};
use std::process::ExitCode;
use std::time::Instant;

use holepunch_rendezvous::Server;
use holepunch_worker::{Config, Notice, Worker};

use super::progress::{Outcome, Side};
use super::{ANY_PORT, LINK_WITHIN, server};
use crate::exit::Failure;
use crate::output;
use crate::signals::Stop;

/// The running parts.
struct Demo {
    started: Instant,
    json: bool,
    server: Server,
    workers: [Worker; 2],
    sides: [Side; 2],
}

pub(super) async fn run(json: bool, keep: bool) -> Result<ExitCode, Failure> {
    let mut stop = Stop::listen()?;
    let mut demo = Demo::start(json).await?;
    let linked = tokio::select! {
        linked = tokio::time::timeout(LINK_WITHIN, demo.until_linked()) => linked.is_ok(),
        _signal = stop.wait() => {
            demo.end().await;
            return Err(Failure::interrupted());
        }
    };
    demo.print_result(linked);
    if linked && keep {
        demo.print_urls();
        demo.keep(&mut stop).await;
    }
    let why = demo.why_not();
    demo.end().await;
    if linked {
        Ok(ExitCode::SUCCESS)
    } else {
        Err(Failure::failed(format!("no link within {} s: {why}", LINK_WITHIN.as_secs())))
    }
}

impl Demo {
    async fn start(json: bool) -> Result<Self, Failure> {
        let started = Instant::now();
        let server = server(vec![ANY_PORT], Vec::new())?;
        let stun = server.stun_addresses();
        let stun = stun.first().ok_or_else(|| Failure::failed("the STUN server has no address"))?;
        let first = worker(server.http_address(), *stun).await?;
        let second = worker(server.http_address(), *stun).await?;
        let sides = [Side::new("A", first.id()), Side::new("B", second.id())];
        let demo = Self { started, json, server, workers: [first, second], sides };
        demo.step(&format!("rendezvous  listens on http://{}", demo.server.http_address()));
        demo.step(&format!("rendezvous  answers STUN on udp://{stun}"));
        for side in &demo.sides {
            demo.step(&format!("worker {}    starts with the id {}", side.name, side.id));
        }
        Ok(demo)
    }

    /// Prints each step until both workers are linked.
    async fn until_linked(&mut self) {
        while !self.sides.iter().all(Side::is_linked) {
            self.next_step().await;
        }
    }

    async fn next_step(&mut self) {
        let [first, second] = &mut self.workers;
        let (index, notice) = tokio::select! {
            notice = first.next_notice() => (0, notice),
            notice = second.next_notice() => (1, notice),
        };
        if let Some(text) =
            notice.as_ref().and_then(|notice: &Notice| self.sides[index].note(notice))
        {
            self.step(&format!("worker {}    {text}", self.sides[index].name));
        }
    }

    async fn keep(&mut self, stop: &mut Stop) {
        loop {
            tokio::select! {
                _signal = stop.wait() => return,
                () = self.next_step() => {}
            }
        }
    }

    fn step(&self, text: &str) {
        let line = format!("{:>8.1} ms  {text}", self.started.elapsed().as_secs_f64() * 1000.0);
        if self.json { output::progress(line) } else { output::line(line) }
    }

    fn print_result(&self, linked: bool) {
        let outcome = Outcome::of(&self.sides, linked, self.started.elapsed());
        if self.json {
            output::json(&outcome);
        } else if linked {
            output::line(format!("\n{outcome}"));
        }
    }

    fn print_urls(&self) {
        let http = self.server.http_address();
        let mut lines = vec![
            format!("rendezvous  http://{http}/"),
            format!("workers     http://{http}/debug/list_workers"),
        ];
        for (side, worker) in self.sides.iter().zip(&self.workers) {
            if let Some(health) = worker.health_address() {
                lines.push(format!("worker {}    http://{health}/health", side.name));
            }
        }
        lines.push("Ctrl-C ends the demo.".to_owned());
        for line in lines {
            if self.json { output::progress(line) } else { output::line(line) }
        }
    }

    fn why_not(&self) -> String {
        let reasons = self.sides.iter().filter_map(Side::what_is_missing);
        reasons.collect::<Vec<_>>().join("; ")
    }

    async fn end(self) {
        let [first, second] = self.workers;
        tokio::join!(first.shutdown(), second.shutdown());
        self.server.shutdown().await;
    }
}

async fn worker(rendezvous: SocketAddr, stun: SocketAddr) -> Result<Worker, Failure> {
    let rendezvous = format!("ws://{rendezvous}").parse().map_err(Failure::failed)?;
    let config = Config {
        port_mapping: false,
        listen_ip: Ipv4Addr::LOCALHOST,
        health_port: Some(0),
        stun_servers: vec![stun.to_string().parse().map_err(Failure::failed)?],
        ..Config::new(rendezvous)
    };
    Worker::start(config).await.map_err(Failure::failed)
}
