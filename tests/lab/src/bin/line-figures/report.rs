//! The table and the JSON object.

use serde_json::{Value, json};

use crate::Args;
use crate::cell::{Measured, median};
use crate::contender::{Contender, Figure};
use crate::shared::Share;

/// Width of a contender's column.
const WIDTH: usize = 17;

/// The contenders of the table.
fn contenders(args: &Args) -> impl Iterator<Item = Contender> {
    let peer = args.peer_command.is_some().then_some(Contender::Peer);
    args.with.iter().copied().chain(peer)
}

/// The first lines of the table.
pub(crate) fn header(args: &Args) -> String {
    let built = if cfg!(debug_assertions) { " (a debug build)" } else { "" };
    let mut text = format!(
        "Mbit/s that have arrived in {} s from the start (times those of TCP with BBR), median of {}{built}\n",
        args.seconds, args.rounds
    );
    text.push_str("Mbit/s  RTT ms  loss %");
    for contender in contenders(args) {
        text.push_str(&format!("  {:>WIDTH$}", contender.to_string()));
    }
    if args.beside_cubic {
        text.push_str("  holepunch beside cubic, share");
    }
    text
}

/// A line of the table.
pub(crate) fn row(args: &Args, measured: &Measured) -> String {
    let cell = measured.cell;
    let mut text = format!("{:>6}  {:>6}  {:>6}", cell.rate_mbit, cell.rtt_ms, cell.loss);
    for contender in contenders(args) {
        let mut figure = measured.median(contender).map_or("-".to_owned(), |it| format!("{it:.1}"));
        if let Some(ratio) = measured.ratio(contender).filter(|_| contender != Contender::Bbr) {
            figure.push_str(&format!(" ({ratio:.2})"));
        }
        text.push_str(&format!("  {figure:>WIDTH$}"));
    }
    if args.beside_cubic {
        let of = |pick: fn(&Share) -> f64| median(measured.shares.iter().map(pick).collect());
        let both = of(|share| share.holepunch_mbit).zip(of(|share| share.cubic_mbit));
        let share = of(|share| share.holepunch_share);
        let shares = both.zip(share).map_or("-".to_owned(), |((own, cubic), share)| {
            format!("{own:.1} / {cubic:.1}, {share:.2}")
        });
        text.push_str(&format!("  {shares:>29}"));
    }
    if !measured.is_good() {
        text.push_str(" !");
    }
    text
}

/// Everything.
pub(crate) fn json(args: &Args, all: &[Measured]) -> Value {
    json!({
        "debug_build": cfg!(debug_assertions),
        "seconds": args.seconds,
        "rounds": args.rounds,
        "cells": all.iter().map(|measured| cell_json(args, measured)).collect::<Vec<_>>(),
    })
}

fn cell_json(args: &Args, measured: &Measured) -> Value {
    let one = |contender: Contender| {
        let figures = measured.contenders.iter().find(|(name, _)| *name == contender);
        let rounds: &[Option<Figure>] = figures.map_or(&[], |(_, figures)| figures);
        json!({
            "name": contender.to_string(),
            "mbit": measured.median(contender),
            "ratio_to_bbr": measured.ratio(contender),
            "rounds": rounds,
        })
    };
    let cell = measured.cell;
    json!({
        "rate_mbit": cell.rate_mbit,
        "rtt_ms": cell.rtt_ms,
        "loss_percent": cell.loss,
        "queue_bytes": cell.lane().queue_bytes_max,
        "contenders": contenders(args).map(one).collect::<Vec<_>>(),
        "beside_cubic": measured.shares,
        "failures": measured.failures,
        "as_meant": measured.is_good(),
    })
}
