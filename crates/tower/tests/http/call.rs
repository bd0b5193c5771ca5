//! A client, and what it asks.

use crate::site::LATE;
use axum::http::header::HOST;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode};
use bytes::Bytes;
use http_body_util::{BodyExt, Collected, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::{Client, Error};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;
use tokio::time::timeout;

pub(crate) type HttpClient = Client<HttpConnector, Full<Bytes>>;

pub(crate) fn client() -> HttpClient {
    Client::builder(TokioExecutor::new()).build_http()
}

/// A request, as a caller writes it down.
#[derive(Clone)]
pub(crate) struct Call {
    pub(crate) method: Method,
    pub(crate) path: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Call {
    pub(crate) fn new(method: Method, path: &str) -> Self {
        let (headers, body) = (HeaderMap::new(), Bytes::new());
        Self { method, path: path.to_owned(), headers, body }
    }

    pub(crate) fn post(path: &str) -> Self {
        Self::new(Method::POST, path)
    }

    /// With a key, in quotes.
    pub(crate) fn key(self, key: &str) -> Self {
        self.header("idempotency-key", &format!("\"{key}\""))
    }

    pub(crate) fn header(mut self, name: &str, value: &str) -> Self {
        let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
        self.headers.append(name, HeaderValue::from_bytes(value.as_bytes()).unwrap());
        self
    }

    pub(crate) fn body(self, body: impl Into<Bytes>) -> Self {
        Self { body: body.into(), ..self }
    }

    pub(crate) async fn send(&self, client: &HttpClient, site: &str) -> Result<Heard, Error> {
        let request = self.request(&format!("http://{site}{}", self.path));
        let heard = async { Ok(Heard::of(client.request(request).await?).await) };
        timeout(LATE, heard).await.expect("an answer in time")
    }

    pub(crate) fn request(&self, uri: &str) -> Request<Full<Bytes>> {
        let mut request = Request::new(Full::new(self.body.clone()));
        *request.method_mut() = self.method.clone();
        *request.uri_mut() = uri.parse().unwrap();
        *request.headers_mut() = self.headers.clone();
        request
    }
}

/// One connection, for one request after the other; a new one once it is broken. For servers that are killed: under much
/// load the pool of a client now and then keeps a request for ever, without a connection for it.
pub(crate) struct Line {
    address: String,
    sender: Option<SendRequest<Full<Bytes>>>,
}

impl Line {
    pub(crate) fn to(address: &str) -> Self {
        Self { address: address.to_owned(), sender: None }
    }

    /// Sends a request; `None` if the server is not there, or goes away meanwhile.
    pub(crate) async fn send(&mut self, call: &Call) -> Option<Heard> {
        let mut sender = match self.sender.take().filter(|sender| !sender.is_closed()) {
            Some(sender) => sender,
            None => self.connect().await?,
        };
        sender.ready().await.ok()?;
        let mut request = call.request(&call.path);
        request.headers_mut().insert(HOST, HeaderValue::from_str(&self.address).unwrap());
        let heard = Heard::of(sender.send_request(request).await.ok()?).await;
        self.sender = heard.is_whole.then_some(sender);
        Some(heard)
    }

    async fn connect(&self) -> Option<SendRequest<Full<Bytes>>> {
        let stream = TcpStream::connect(&self.address).await.ok()?;
        let (sender, connection) = handshake(TokioIo::new(stream)).await.ok()?;
        tokio::spawn(connection);
        Some(sender)
    }
}

/// A response, all of it.
#[derive(Debug, Clone)]
pub(crate) struct Heard {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    pub(crate) is_whole: bool,
}

impl Heard {
    async fn of(response: Response<Incoming>) -> Self {
        let (parts, body) = response.into_parts();
        // A body that breaks off is what was heard of it.
        let body = body.collect().await.map(Collected::to_bytes);
        let is_whole = body.is_ok();
        let body = body.unwrap_or_default();
        Self { status: parts.status, headers: parts.headers, body, is_whole }
    }

    pub(crate) fn status(&self) -> u16 {
        self.status.as_u16()
    }

    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }

    pub(crate) fn is_replay(&self) -> bool {
        self.header("idempotency-replayed") == Some("true")
    }

    /// The code of a problem; empty if it is another answer.
    pub(crate) fn code(&self) -> &str {
        if self.header("content-type") != Some("application/problem+json") {
            return "";
        }
        let (_, rest) = self.text().split_once("\"code\":\"").unwrap();
        rest.split_once('"').unwrap().0
    }

    /// Status and code of a refusal, and after how many seconds to come again.
    #[track_caller]
    pub(crate) fn assert_refused(&self, status: u16, code: &str, retry_after: Option<&str>) {
        assert_eq!((self.status(), self.code()), (status, code), "{self:?}");
        assert_eq!(self.header("retry-after"), retry_after, "{self:?}");
        assert!(!self.is_replay(), "{self:?}");
        assert!(
            self.header("link").unwrap().ends_with("; rel=\"describedby\"; type=\"text/html\"")
        );
    }

    #[track_caller]
    pub(crate) fn assert_first(&self, status: u16, body: &str) {
        assert_eq!((self.status(), self.text()), (status, body), "{self:?}");
        assert!(!self.is_replay(), "{self:?}");
    }

    #[track_caller]
    pub(crate) fn assert_replayed(&self, status: u16, body: &str) {
        assert_eq!((self.status(), self.text()), (status, body), "{self:?}");
        assert!(self.is_replay(), "{self:?}");
    }
}
