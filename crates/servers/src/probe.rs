//! Whether a server answers, asked without a client.

use std::io;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// A question in a server's protocol, and how its answer begins.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Probe {
    pub(crate) question: &'static [u8],
    pub(crate) answer: &'static [u8],
}

impl Probe {
    pub(crate) async fn is_answered(self, port: u16) -> bool {
        let asked = async {
            let mut stream = TcpStream::connect(("127.0.0.1", port)).await?;
            stream.write_all(self.question).await?;
            let mut answer = vec![0; self.answer.len()];
            stream.read_exact(&mut answer).await?;
            Ok::<_, io::Error>(answer == self.answer)
        };
        matches!(tokio::time::timeout(Duration::from_secs(10), asked).await, Ok(Ok(true)))
    }
}
