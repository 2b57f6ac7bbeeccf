//! A stretch of network between mirror and depot, which can be cut or held up.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// What happens once so many bytes came down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    None,
    /// The connection breaks, once.
    Cut(u64),
    /// The connection breaks each time so many more have come.
    Cuts(u64),
    /// Nothing more comes, until the fault is taken away.
    Hold(u64),
}

pub(crate) struct Proxy {
    pub(crate) address: SocketAddr,
    fault: watch::Sender<Fault>,
    down: Arc<AtomicU64>,
    connections: Arc<AtomicU64>,
    _tasks: JoinSet<()>,
}

impl Proxy {
    pub(crate) async fn start(depot: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (fault, down) = (watch::Sender::new(Fault::None), Arc::new(AtomicU64::new(0)));
        let mut tasks = JoinSet::new();
        let connections = Arc::new(AtomicU64::new(0));
        let (told, counted, made) = (fault.clone(), Arc::clone(&down), Arc::clone(&connections));
        tasks.spawn(async move {
            let mut carried = JoinSet::new();
            loop {
                let (near, _) = listener.accept().await.unwrap();
                if let Ok(far) = TcpStream::connect(depot).await {
                    made.fetch_add(1, Ordering::SeqCst);
                    carried.spawn(carry(near, far, told.clone(), Arc::clone(&counted)));
                }
            }
        });
        Self {
            address,
            fault,
            down,
            connections,
            _tasks: tasks,
        }
    }

    /// Sets what happens, counted from now.
    pub(crate) fn set(&self, fault: Fault) {
        self.down.store(0, Ordering::SeqCst);
        self.fault.send_replace(fault);
    }

    /// Bytes that came down since then.
    pub(crate) fn down(&self) -> u64 {
        self.down.load(Ordering::SeqCst)
    }

    /// Connections that were ever made.
    pub(crate) fn connections(&self) -> u64 {
        self.connections.load(Ordering::SeqCst)
    }
}

async fn carry(near: TcpStream, far: TcpStream, fault: watch::Sender<Fault>, down: Arc<AtomicU64>) {
    let (mut near_in, mut near_out) = near.into_split();
    let (mut far_in, mut far_out) = far.into_split();
    let up = async move { drop(tokio::io::copy(&mut near_in, &mut far_out).await) };
    let back = async move {
        let mut buffer = vec![0; 16 * 1024];
        let mut told = fault.subscribe();
        while let Ok(read @ 1..) = far_in.read(&mut buffer).await {
            let total = down.fetch_add(read as u64, Ordering::SeqCst) + read as u64;
            let now = *told.borrow_and_update();
            match now {
                Fault::Cut(after) if total > after => {
                    fault.send_replace(Fault::None);
                    return;
                }
                Fault::Cuts(each) if total / each > (total - read as u64) / each => {
                    // What lies behind the cut has not come.
                    down.fetch_sub(total % each, Ordering::SeqCst);
                    let rest = usize::try_from(total % each).unwrap();
                    drop(near_out.write_all(&buffer[..read.saturating_sub(rest)]).await);
                    return;
                }
                Fault::Hold(after) if total > after => {
                    told.wait_for(|fault| !matches!(fault, Fault::Hold(_)))
                        .await
                        .unwrap();
                }
                _ => {}
            }
            if near_out.write_all(&buffer[..read]).await.is_err() {
                return;
            }
        }
    };
    tokio::select! {
        () = up => {}
        () = back => {}
    }
}
