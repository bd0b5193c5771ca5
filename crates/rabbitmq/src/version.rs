//! Which version a server has, by its greeting: the client keeps that to itself.

use crate::error::RabbitError;
use futures_util::{AsyncReadExt, AsyncWriteExt};
use lapin::protocol::{AMQPClass, connection, parse_class};
use lapin::tcp::AMQPUriTcpExt;
use lapin::types::AMQPValue;
use lapin::uri::AMQPUri;

/// What a client of AMQP 0-9-1 says first.
const HEADER: &[u8] = b"AMQP\0\0\x09\x01";

/// The longest greeting that is read.
const GREETING_MAX: usize = 64 << 10;

/// Asks a server for its major version.
pub(crate) async fn major_version(uri: &AMQPUri) -> Result<u32, RabbitError> {
    let what = "asking the server for its version";
    let runtime = lapin::runtime::default_runtime().map_err(RabbitError::of(what))?;
    let mut stream = uri.connect_async(&runtime).await.map_err(RabbitError::of(what))?;
    stream.write_all(HEADER).await.map_err(RabbitError::of(what))?;
    // Type, channel, and the size of what follows.
    let mut start = [0; 7];
    stream.read_exact(&mut start).await.map_err(RabbitError::of(what))?;
    let [1, 0, 0, size @ ..] = start else {
        return Err(RabbitError::of(what)("it does not speak AMQP 0-9-1"));
    };
    let size = u32::from_be_bytes(size) as usize;
    if size > GREETING_MAX {
        return Err(RabbitError::of(what)("its greeting is too long"));
    }
    let mut greeting = vec![0; size];
    stream.read_exact(&mut greeting).await.map_err(RabbitError::of(what))?;
    let version = major_version_in(&greeting);
    version.ok_or_else(|| RabbitError::of(what)("its greeting has no version"))
}

fn major_version_in(greeting: &[u8]) -> Option<u32> {
    let (_, class) = parse_class(greeting).ok()?;
    let AMQPClass::Connection(connection::AMQPMethod::Start(start)) = class else { return None };
    let AMQPValue::LongString(version) = start.server_properties.inner().get("version")? else {
        return None;
    };
    let version = std::str::from_utf8(version.as_bytes()).ok()?;
    version.split('.').next()?.parse().ok()
}
