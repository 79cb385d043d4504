//! A file over a link. (The program `holepunch send` does more: folders, resumption, verification.)
//!
//!     cargo run -p holepunch-worker --example file -- http://127.0.0.1:8080 receive FOLDER
//!     cargo run -p holepunch-worker --example file -- http://127.0.0.1:8080 send ID FILE
//!
//! The first argument is the rendezvous; ID is what the first command prints.

#![expect(clippy::print_stdout, reason = "an example talks to a person")]

use std::error::Error;
use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use holepunch_worker::{BiStream, RoomMode, Worker, WorkerId};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const CHUNK_BYTES: usize = 64 * 1024;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        [rendezvous, "receive", folder] => {
            let worker = worker(rendezvous).await?;
            println!("{}", worker.id());
            let link = worker.accept().await?;
            let path = receive(link.accept_stream().await?, Path::new(folder)).await?;
            println!("{}", path.display());
            // The peer closes the link when it knows that all is here.
            link.closed().await;
            worker.shutdown().await;
        }
        [rendezvous, "send", peer, file] => {
            let worker = worker(rendezvous).await?;
            let link = worker.connect(&WorkerId::new(peer)?).await?;
            send(link.open_stream().await?, Path::new(file)).await?;
            link.close("done");
            worker.shutdown().await;
        }
        _ => return Err("expected RENDEZVOUS receive FOLDER, or RENDEZVOUS send ID FILE".into()),
    }
    Ok(())
}

async fn worker(rendezvous: &str) -> Result<Worker, Box<dyn Error>> {
    let worker = Worker::builder(rendezvous).room("file").room_mode(RoomMode::Call);
    Ok(worker.protocols(["file/1"]).start().await?)
}

/// The name, in a byte for its length and so many bytes, then the content; the answer is how many bytes came.
pub(crate) async fn send(mut stream: BiStream, path: &Path) -> Result<(), Box<dyn Error>> {
    let name = path.file_name().and_then(|name| name.to_str()).ok_or("the file has no name")?;
    stream.write_u8(u8::try_from(name.len())?).await?;
    stream.write_all(name.as_bytes()).await?;
    let (mut file, mut chunk, mut sent) = (File::open(path)?, vec![0; CHUNK_BYTES], 0);
    loop {
        let length = file.read(&mut chunk)?;
        if length == 0 {
            break;
        }
        stream.write_all(&chunk[..length]).await?;
        sent += length as u64;
    }
    stream.shutdown().await?;
    let arrived = stream.read_u64().await?;
    if arrived == sent { Ok(()) } else { Err(format!("{arrived} of {sent} bytes arrived").into()) }
}

/// Writes the file into the folder, where none has its name. The peer chooses the name: it is to lead nowhere else.
pub(crate) async fn receive(
    mut stream: BiStream,
    folder: &Path,
) -> Result<PathBuf, Box<dyn Error>> {
    let mut name = vec![0; usize::from(stream.read_u8().await?)];
    stream.read_exact(&mut name).await?;
    let name = String::from_utf8(name)?;
    if Path::new(&name).file_name().is_none_or(|last| last != name.as_str()) {
        return Err(format!("{name:?} is no plain name of a file").into());
    }
    let path = folder.join(name);
    let (mut file, mut received) = (File::create_new(&path)?, 0);
    while let Some(chunk) = stream.recv().read_chunk(CHUNK_BYTES).await? {
        file.write_all(&chunk)?;
        received += chunk.len() as u64;
    }
    file.sync_all()?;
    stream.write_u64(received).await?;
    stream.shutdown().await?;
    Ok(path)
}
