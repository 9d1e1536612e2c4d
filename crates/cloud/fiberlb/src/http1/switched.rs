//! Connections that have switched to another protocol: whatever both ends say, until one of them is done.
use super::buffer::Buffer;
use super::relay::Down;
use crate::backend_stream::BackendStream;
use std::io;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};

/// Gives each end what was read of the other already, then all that follows.
pub async fn join<S: AsyncRead + AsyncWrite + Unpin>(client: &mut S, from_client: &mut Buffer, mut backend: BackendStream, mut down: Down) -> io::Result<()> {
    down.out.put(down.input.filled());
    down.input.clear();
    client.write_all(down.out.filled()).await?;
    client.flush().await?;
    drop(down);
    backend.write_all(from_client.filled()).await?;
    backend.flush().await?;
    from_client.clear();
    tokio::io::copy_bidirectional(client, &mut backend).await.map(|_| ())
}
