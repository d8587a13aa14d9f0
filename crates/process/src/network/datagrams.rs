//! UDP: a flow is what one socket of the instance sends to one address, and the answers. And names, which are asked of
//! the server and looked up by the machine's name servers.

use super::outside::{Outside, Permit, Visitor};
use super::{open_inside, rules, sockets};
use crate::socket::Control;
use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::UdpSocket;
use tokio::sync::{OnceCell, OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::task::JoinSet;

/// A flow in which nothing was sent for this long is over.
const IDLE: Duration = Duration::from_secs(60);
/// A name server that has not answered by then is passed over.
const ANSWER: Duration = Duration::from_secs(3);
/// Datagrams of one flow that wait for its sockets, and the bytes of all those of one instance: while many of its processes
/// run, or it is frozen, its first process opens none. More are lost, as datagrams may be.
const WAITING: usize = 16;
const WAITING_BYTES: usize = 256 << 10;
/// Questions of one instance that wait for an answer; more are lost.
const QUESTIONS: usize = 64;
/// The largest datagram.
const LARGEST: usize = 65_535;

/// An instance's network, for sockets that are needed while it runs.
pub struct Inside {
    control: Arc<Control>,
    /// What answers come from.
    name_server: OnceCell<Arc<UdpSocket>>,
}

/// Room for what waits.
#[derive(Clone)]
struct Room(Arc<Semaphore>);

/// A datagram, and its room until it is dropped.
struct Waiting {
    datagram: Vec<u8>,
    _room: OwnedSemaphorePermit,
}

impl Room {
    fn of(bytes: usize) -> Room {
        Room(Arc::new(Semaphore::new(bytes)))
    }

    /// `None` when there is no room for it.
    fn keep(&self, datagram: &[u8]) -> Option<Waiting> {
        let room = self.0.clone().try_acquire_many_owned(datagram.len() as u32).ok()?;
        Some(Waiting { datagram: datagram.to_vec(), _room: room })
    }
}

/// Who sends to whom.
type Ends = (SocketAddr, SocketAddr);

impl Inside {
    /// Of the sandbox that listens to `control`.
    pub fn new(control: Arc<Control>) -> Inside {
        Inside { control, name_server: OnceCell::new() }
    }

    /// A socket inside that speaks as `address`.
    async fn speak_as(&self, address: SocketAddr) -> io::Result<UdpSocket> {
        let opened = open_inside(&self.control, sockets::family(address), libc::SOCK_DGRAM);
        // One that is frozen for longer has forgotten by then what it sent.
        let socket = tokio::time::timeout(IDLE, opened).await??;
        sockets::bind(&socket, address)?;
        sockets::datagrams(socket)
    }
}

/// Serves what an instance sends anywhere.
pub async fn serve_door(door: UdpSocket, inside: Inside, outside: Arc<Outside>, visitor: Visitor) {
    let inside = Arc::new(inside);
    let mut flows: HashMap<Ends, mpsc::Sender<Waiting>> = HashMap::new();
    let room = Room::of(WAITING_BYTES);
    let (mut running, mut questions) = (JoinSet::new(), JoinSet::new());
    // Most instances never send a datagram.
    let mut buffer = Vec::new();
    loop {
        tokio::select! {
            ready = door.readable() => if ready.is_err() { return },
            Some(ended) = running.join_next() => {
                if let Ok(ends) = ended {
                    flows.remove(&ends);
                }
                continue;
            }
            Some(_) = questions.join_next() => continue,
        }
        buffer.resize(LARGEST, 0);
        let Ok((length, from, to)) = sockets::receive(&door, &mut buffer) else { continue };
        let datagram = &buffer[..length];
        if to == SocketAddr::new(IpAddr::V4(rules::NAMESERVER), 53) {
            if let Some(permit) = visitor.try_permit().filter(|_| questions.len() < QUESTIONS) {
                questions.spawn(answer(inside.clone(), outside.clone(), from, to, datagram.to_vec(), permit));
            }
            continue;
        }
        if let Some(flow) = flows.get(&(from, to)) {
            let _ = room.keep(datagram).map(|kept| flow.try_send(kept));
            continue;
        }
        match (outside.way(to), visitor.try_permit()) {
            (Ok(_), Some(permit)) => {
                let (sender, waiting) = mpsc::channel(WAITING);
                let _ = room.keep(datagram).map(|kept| sender.try_send(kept));
                flows.insert((from, to), sender);
                let inside = inside.clone();
                running.spawn(async move {
                    let _ = flow(&inside, (from, to), waiting, permit).await;
                    (from, to)
                });
            }
            (Err(why), _) => tracing::debug!(%to, ?why, "a datagram was refused"),
            (_, None) => tracing::debug!(%to, "a datagram found no room"),
        }
    }
}

/// Copies between an instance's socket and a host until neither has had anything to say for a while. `waiting` came
/// before this flow had a socket inside; later datagrams find that by themselves.
async fn flow(
    inside: &Inside,
    (from, to): Ends,
    mut waiting: mpsc::Receiver<Waiting>,
    _permit: Permit,
) -> io::Result<()> {
    let far = connected(to).await?;
    let near = inside.speak_as(to).await?;
    near.connect(from).await?;
    loop {
        let next = async {
            tokio::select! {
                Some(kept) = waiting.recv() => {
                    let _ = far.send(&kept.datagram).await;
                    Ok(())
                }
                ready = near.readable() => pass(ready, &near, &far).await,
                ready = far.readable() => pass(ready, &far, &near).await,
            }
        };
        match tokio::time::timeout(IDLE, next).await {
            Ok(step) => step?,
            Err(_) => return Ok(()),
        }
    }
}

/// Passes one datagram on. A flow has a buffer only as long as that takes: there may be a thousand.
async fn pass(ready: io::Result<()>, from: &UdpSocket, to: &UdpSocket) -> io::Result<()> {
    ready?;
    let mut datagram = Vec::with_capacity(LARGEST);
    match from.try_recv_buf(&mut datagram) {
        Ok(_) => drop(to.send(&datagram).await),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
        Err(error) => return Err(error),
    }
    Ok(())
}

/// Asks the machine's name servers, one after the other, and passes the first answer on.
async fn answer(
    inside: Arc<Inside>,
    outside: Arc<Outside>,
    from: SocketAddr,
    own: SocketAddr,
    question: Vec<u8>,
    _permit: Permit,
) {
    let speaker = inside.name_server.get_or_try_init(async || inside.speak_as(own).await.map(Arc::new));
    let Ok(speaker) = speaker.await else { return };
    for server in outside.machine().name_servers() {
        if let Ok(Ok(answer)) = tokio::time::timeout(ANSWER, ask(server, &question)).await {
            let _ = speaker.send_to(&answer, from).await;
            return;
        }
    }
}

async fn ask(server: SocketAddr, question: &[u8]) -> io::Result<Vec<u8>> {
    let socket = connected(server).await?;
    socket.send(question).await?;
    let mut answer = vec![0; LARGEST];
    loop {
        let length = socket.recv(&mut answer).await?;
        // The first two bytes say which question it answers (RFC 1035, 4.1.1).
        if answer[..length].get(..2) == question.get(..2) {
            answer.truncate(length);
            return Ok(answer);
        }
    }
}

async fn connected(to: SocketAddr) -> io::Result<UdpSocket> {
    let any: IpAddr = if to.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((any, 0)).await?;
    socket.connect(to).await?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_waits_for_a_socket_has_so_much_room_and_no_more() {
        let room = Room::of(WAITING_BYTES);
        let mut kept: Vec<Waiting> = std::iter::from_fn(|| room.keep(&[7; LARGEST])).collect();
        assert_eq!(kept.len(), 4);
        kept.pop();
        assert_eq!(room.keep(&[7; LARGEST]).expect("there is room again").datagram.len(), LARGEST);
    }
}
