//! TCP: an instance's connections end at the server, which makes another one to where they were meant to go and
//! copies between the two.

use super::outside::{Endpoint, Outside, Permit, Visitor};
use super::{rules, sockets};
use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::unix::AsyncFd;
use tokio::net::TcpStream;
use tokio::task::JoinSet;

/// A host that does not answer within this time is not there.
const CONNECT: Duration = Duration::from_secs(20);
/// What is on the way in one direction of one connection, in bytes.
const BUFFER: usize = 16 * 1024;

/// Serves what an instance connects to at one endpoint.
pub async fn serve_endpoint(listener: AsyncFd<TcpListener>, endpoint: Endpoint, visitor: Visitor) {
    let mut connections = JoinSet::new();
    loop {
        let (inside, permit) = accept(&listener, &visitor, &mut connections).await;
        connections.spawn(carry(inside, endpoint.outside.clone(), permit));
    }
}

/// Serves what an instance connects to anywhere.
pub async fn serve_door(listener: AsyncFd<TcpListener>, outside: Arc<Outside>, visitor: Visitor) {
    let mut connections = JoinSet::new();
    loop {
        let (inside, permit) = accept(&listener, &visitor, &mut connections).await;
        let outside = outside.clone();
        connections.spawn(async move {
            let Ok(to) = inside.local_addr().map(sockets::plain) else { return };
            let way = match to {
                _ if to == SocketAddr::new(IpAddr::V4(rules::NAMESERVER), 53) => {
                    Ok(outside.machine().name_servers().into())
                }
                _ => outside.way(to),
            };
            match way {
                Ok(way) => carry(inside, way, permit).await,
                Err(why) => {
                    tracing::debug!(%to, ?why, "a connection was refused");
                    let _ = reset(&inside);
                }
            }
        });
    }
}

/// The next connection, when this instance may have one more; until then the kernel holds a few back, then the rest
/// off. Only who has a connection counts, not who waits for one.
async fn accept(
    listener: &AsyncFd<TcpListener>,
    visitor: &Visitor,
    connections: &mut JoinSet<()>,
) -> (TcpStream, Permit) {
    loop {
        if let Ok(mut ready) = listener.readable().await {
            while connections.try_join_next().is_some() {}
            let permit = visitor.permit().await;
            match ready.try_io(|listener| listener.get_ref().accept().and_then(|(stream, _)| tokio(stream))) {
                Ok(Ok(stream)) => return (stream, permit),
                Err(_would_block) => continue,
                Ok(Err(_)) => {}
            }
        }
        // Out of descriptors, or the client left already: either way it passes.
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn tokio(stream: std::net::TcpStream) -> io::Result<TcpStream> {
    stream.set_nonblocking(true)?;
    TcpStream::from_std(stream)
}

async fn carry(mut inside: TcpStream, to: Arc<[SocketAddr]>, permit: Permit) {
    match tokio::time::timeout(CONNECT, TcpStream::connect(&*to)).await {
        Ok(Ok(mut outside)) => {
            let _ = (inside.set_nodelay(true), outside.set_nodelay(true));
            let copied =
                tokio::io::copy_bidirectional_with_sizes(&mut inside, &mut outside, BUFFER, BUFFER).await;
            // Who broke off breaks off on both sides.
            if copied.is_err() {
                let _ = (reset(&inside), reset(&outside));
            }
        }
        // To the function it looks as if the other side had accepted and then thought better of it.
        Ok(Err(_)) | Err(_) => _ = reset(&inside),
    }
    drop(permit);
}

/// When it is dropped, the other side hears that it was refused or broken off, not that all was said.
fn reset(stream: &TcpStream) -> io::Result<()> {
    stream.set_zero_linger()
}
