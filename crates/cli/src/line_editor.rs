//! A line that is edited on the terminal while others are printed: those stand above it.
//!
//! `rustyline` reads and draws the line, on a thread of its own, from the start to [`LineEditor::close`]: it goes on to take
//! what is typed when nobody wants it any more. So nothing of it is left in the terminal for the shell.

use std::io::IsTerminal;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Signal, getpid, kill_process};
use rustix::termios::{QueueSelector, tcflush};
use rustyline::completion::Completer;
use rustyline::config::BellStyle;
use rustyline::error::ReadlineError;
use rustyline::highlight::Highlighter;
use rustyline::hint::Hinter;
use rustyline::history::DefaultHistory;
use rustyline::validate::Validator;
use rustyline::{Config, Context, Editor, ExternalPrinter, Helper};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::task::{JoinSet, spawn_blocking};
use tokio::time::{sleep, timeout};

use crate::exit::Failure;
use crate::output;
use crate::screen::{Stream, can_redraw};
use crate::signals;
use crate::suspending::Suspending;

const PROMPT: &str = "> ";
/// Lines that were typed and are not taken yet.
const LINES_WAITING_MAX: usize = 16;
/// Texts that wait for the terminal; whoever has a further one waits with it.
const TEXTS_WAITING_MAX: usize = 64;
/// Bytes that wait between the program and the terminal, each way.
const BUFFER_BYTES: usize = 64 * 1024;
/// Whoever has not typed for so long has seen that nobody listens any more.
const QUIET_FOR: Duration = Duration::from_millis(700);
/// So long somebody may go on typing before the shell gets it all the same: a key that is held down, say.
const QUIET_WITHIN: Duration = Duration::from_secs(5);
/// The terminal takes what is left within so long, unless somebody has stopped it.
const DRAINED_WITHIN: Duration = Duration::from_secs(1);
/// How often the thread is told to end: between two lines it does not hear it.
const TELL_EVERY: Duration = Duration::from_millis(20);
/// Printed above the line, this changes nothing that is seen: one line up, and down again. Only one text waits at a time, so that
/// it has been taken means that all before it were printed.
const NOTHING_SEEN: &str = "\u{1b}[A\n";

/// What the thread tells, and what it is told.
#[derive(Debug, Default)]
struct Shared {
    /// Whether it is to end.
    closing: AtomicBool,
    /// Whether it has ended.
    ended: AtomicBool,
    /// It has the terminal.
    reading: Notify,
    /// The line as it was drawn last, and when it became so.
    typed: Mutex<Option<(String, Instant)>>,
}

/// What is printed.
enum Text {
    Line(String),
    /// All before it has been printed.
    Drained(oneshot::Sender<()>),
}

/// A line on the terminal, from the first one to the last.
pub(crate) struct LineEditor {
    shared: Arc<Shared>,
    texts: SyncSender<Text>,
    typed: Option<mpsc::Receiver<String>>,
    inputs: JoinSet<()>,
    outputs: JoinSet<()>,
    printing: oneshot::Receiver<()>,
}

impl LineEditor {
    /// Begins, where standard input, output and error are terminals that can be drawn on.
    pub(crate) async fn start() -> Result<Option<Self>, Failure> {
        let can_edit =
            std::io::stdin().is_terminal() && can_redraw(Stream::Out) && can_redraw(Stream::Err);
        if !can_edit {
            return Ok(None);
        }
        let config = Config::builder().auto_add_history(true).bell_style(BellStyle::None).build();
        let mut editor: Editor<Typing, DefaultHistory> =
            Editor::with_config(config).map_err(Failure::failed)?;
        let printer = editor.create_external_printer().map_err(Failure::failed)?;
        let shared = Arc::new(Shared::default());
        editor.set_helper(Some(Typing(Arc::clone(&shared))));
        let (lines, typed) = mpsc::channel(LINES_WAITING_MAX);
        let (texts, waiting) = sync_channel(TEXTS_WAITING_MAX);
        let (printed, printing) = oneshot::channel();
        let of_editor = Arc::clone(&shared);
        let begin = |name: &str, run: Box<dyn FnOnce() + Send>| {
            thread::Builder::new().name(name.to_owned()).spawn(run).map_err(Failure::failed)
        };
        begin("line editor", Box::new(move || edit(editor, lines, &of_editor)))?;
        begin("printer", Box::new(move || print(printer, &waiting, printed)))?;
        let above = texts.clone();
        output::print_above(Some(Arc::new(move |text| {
            let _when_all_is_over = above.send(Text::Line(text));
        })));
        // What is typed before that is echoed by the terminal itself.
        let _in_time = timeout(DRAINED_WITHIN, shared.reading.notified()).await;
        let (inputs, outputs) = (JoinSet::new(), JoinSet::new());
        Ok(Some(Self { shared, texts, typed: Some(typed), inputs, outputs, printing }))
    }

    /// What is typed, line by line; its end is Ctrl-D.
    pub(crate) fn input(&mut self) -> DuplexStream {
        let (ours, theirs) = duplex(BUFFER_BYTES);
        if let Some(typed) = self.typed.take() {
            self.inputs.spawn(pass_on(typed, ours));
        }
        theirs
    }

    /// What is printed above the line.
    pub(crate) fn output(&mut self) -> DuplexStream {
        let (ours, theirs) = duplex(BUFFER_BYTES);
        self.outputs.spawn(show(ours, self.texts.clone()));
        theirs
    }

    /// Lines are taken from now on, and nobody gets them.
    pub(crate) fn hears_nobody(&mut self) {
        self.inputs.abort_all();
    }

    /// Ends it: what was to be printed is printed, and what is typed until then is nobody's. `is_surprised`: whoever is typing does
    /// not know yet that nobody listens, and is waited for.
    pub(crate) async fn close(mut self, is_surprised: bool) {
        let until = Instant::now() + QUIET_WITHIN;
        while is_surprised && self.shared.is_typing() && Instant::now() < until {
            sleep(TELL_EVERY).await;
        }
        let _in_time = timeout(DRAINED_WITHIN, self.drain()).await;
        self.outputs.abort_all();
        self.hears_nobody();
        self.shared.closing.store(true, Ordering::SeqCst);
        let until = Instant::now() + DRAINED_WITHIN;
        while !self.shared.ended.load(Ordering::SeqCst) && Instant::now() < until {
            // While it reads, the editor has the handler of this signal, and takes it for Ctrl-C.
            interrupt();
            sleep(TELL_EVERY).await;
        }
        output::print_above(None);
        drop(self.texts);
        let _in_time = timeout(DRAINED_WITHIN, self.printing).await;
        discard_typed();
    }

    /// Returns when all that was printed stands on the terminal.
    async fn drain(&mut self) {
        while self.outputs.join_next().await.is_some() {}
        if self.shared.ended.load(Ordering::SeqCst) {
            return;
        }
        let (sender, drained) = oneshot::channel();
        let texts = self.texts.clone();
        let sent = spawn_blocking(move || texts.send(Text::Drained(sender))).await;
        if sent.is_ok() {
            let _when_the_printer_has_ended = drained.await;
        }
    }
}

/// Sends SIGINT to this process, which handles it.
fn interrupt() {
    let _to_oneself_is_allowed = kill_process(getpid(), Signal::INT);
}

/// Throws away what was typed and nobody has read, so that no shell reads it.
pub(crate) fn discard_typed() {
    let _where_it_is_no_terminal = tcflush(std::io::stdin(), QueueSelector::IFlush);
}

impl Shared {
    /// Whether somebody has just typed.
    fn is_typing(&self) -> bool {
        let typed = self.typed.lock().unwrap_or_else(PoisonError::into_inner);
        typed.as_ref().is_some_and(|(_, at)| at.elapsed() < QUIET_FOR)
    }
}

/// Reads line after line, until it is told to end. What is typed after Ctrl-D or Ctrl-C, or after the program's end, is taken all the
/// same.
fn edit(mut editor: Editor<Typing, DefaultHistory>, lines: mpsc::Sender<String>, shared: &Shared) {
    let (mut lines, mut prompt) = (Some(lines), PROMPT);
    // After Ctrl-C the lines have no end: it would be taken for Ctrl-D.
    let mut is_over = false;
    let suspending = Suspending::of(&mut editor);
    while !shared.closing.load(Ordering::SeqCst) {
        match suspending.line(&mut editor, prompt) {
            Ok(line) => {
                if let Some(wanted) = &lines
                    && !is_over
                    && wanted.blocking_send(line).is_err()
                {
                    lines = None;
                }
            }
            Err(ReadlineError::Interrupted) => {
                // It is no signal while a line is edited. One that this side would send itself may come to the editor again.
                if !shared.closing.load(Ordering::SeqCst) {
                    signals::interrupt_typed();
                }
                is_over = true;
            }
            Err(ReadlineError::Eof) if lines.is_some() && !is_over => lines = None,
            // The terminal is gone, or somebody really wants to leave.
            Err(_) => break,
        }
        let is_wanted = !is_over && lines.as_ref().is_some_and(|lines| !lines.is_closed());
        prompt = if is_wanted { PROMPT } else { "" };
    }
    drop(editor);
    shared.ended.store(true, Ordering::SeqCst);
}

/// Prints what comes, above the line.
fn print(mut printer: impl ExternalPrinter, texts: &Receiver<Text>, _until: oneshot::Sender<()>) {
    for text in texts {
        match text {
            Text::Line(text) => {
                let _when_the_terminal_is_gone = printer.print(text);
            }
            Text::Drained(told) => {
                // The first waits until all before it has been taken, and is itself taken before the second waits.
                let _when_the_terminal_is_gone =
                    [NOTHING_SEEN; 2].map(|nothing| printer.print(nothing.to_owned()));
                let _unless_nobody_waits = told.send(());
            }
        }
    }
}

/// Hands lines to the program.
async fn pass_on(mut typed: mpsc::Receiver<String>, mut input: DuplexStream) {
    while let Some(line) = typed.recv().await {
        if input.write_all(format!("{line}\n").as_bytes()).await.is_err() {
            return;
        }
    }
}

/// Shows what the program prints, whole lines at once.
async fn show(mut output: DuplexStream, texts: SyncSender<Text>) {
    let mut bytes = Vec::new();
    while let Ok(1..) = output.read_buf(&mut bytes).await {
        let end = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        let rest = bytes.split_off(end);
        let text = String::from_utf8_lossy(&bytes).into_owned();
        bytes = rest;
        let texts = texts.clone();
        if !text.is_empty()
            && !spawn_blocking(move || texts.send(Text::Line(text)).is_ok()).await.unwrap_or(false)
        {
            return;
        }
    }
}

/// Notes when the line becomes another one.
struct Typing(Arc<Shared>);

impl Hinter for Typing {
    type Hint = String;

    fn hint(&self, line: &str, _: usize, _: &Context<'_>) -> Option<String> {
        self.0.reading.notify_one();
        let mut typed = self.0.typed.lock().unwrap_or_else(PoisonError::into_inner);
        let is_new = typed.as_ref().map_or("", |(known, _)| known.as_str()) != line;
        if is_new {
            *typed = Some((line.to_owned(), Instant::now()));
        }
        None
    }
}

impl Completer for Typing {
    type Candidate = String;
}

impl Highlighter for Typing {}
impl Validator for Typing {}
impl Helper for Typing {}
