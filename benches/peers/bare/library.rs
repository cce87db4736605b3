//! hyper's server with hyper's or reqwest's client behind it.

use std::rc::Rc;

use bytes::Bytes;
use http_body_util::Empty;
use hyper::body::Incoming;
use hyper::header::{CONNECTION, HOST};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;

use super::Places;
use super::pool::{Kept, Pool};

/// Path at the upstream, and is it the one with TLS?
fn place(request: &Request<Incoming>) -> (&str, bool) {
    let path = request.uri().path();
    path.strip_prefix("/secure").map_or((path, false), |path| (path, true))
}

pub(super) async fn by_hyper(listener: TcpListener, places: &Places, buffer: usize) {
    let pools = [Pool::plain(places, buffer), Pool::secure(places, buffer)];
    let name: Rc<str> = places.name.as_str().into();
    serve(listener, Some(buffer), async move |request| {
        let (path, secure) = place(&request);
        let pool = &pools[usize::from(secure)];
        let mut sender = pool.take().await;
        let asked = Request::get(path).header(HOST, &*name).body(Empty::<Bytes>::new()).unwrap();
        let (mut head, body) = sender.send_request(asked).await.unwrap().into_parts();
        head.headers.remove(CONNECTION);
        Response::from_parts(head, Kept { body, sender: Some(sender), pool: Rc::clone(pool) })
    })
    .await;
}

pub(super) async fn by_reqwest(listener: TcpListener, places: &Places) {
    let ca = reqwest::Certificate::from_pem(&std::fs::read(&places.ca).unwrap()).unwrap();
    let client = reqwest::Client::builder()
        .tls_certs_only([ca])
        .resolve(&places.name, places.secure)
        .no_proxy()
        .build()
        .unwrap();
    let bases =
        [format!("http://{}", places.plain), format!("https://{}:{}", places.name, places.secure.port())];
    serve(listener, None, async move |request| {
        let (path, secure) = place(&request);
        let answer = client.get(format!("{}{path}", bases[usize::from(secure)])).send().await.unwrap();
        let mut answer = Response::<reqwest::Body>::from(answer);
        answer.headers_mut().remove(CONNECTION);
        answer
    })
    .await;
}

/// `most` bounds what hyper's server keeps of a body that its client does not take; without it hyper decides.
async fn serve<B, F>(listener: TcpListener, most: Option<usize>, answer: F)
where
    B: hyper::body::Body<Data = Bytes> + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    F: AsyncFn(Request<Incoming>) -> Response<B> + 'static,
{
    let answer = Rc::new(answer);
    let mut builder = http1::Builder::new();
    if let Some(most) = most {
        builder.max_buf_size(most);
    }
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        stream.set_nodelay(true).unwrap();
        let answer = Rc::clone(&answer);
        let service = service_fn(move |request| {
            let answer = Rc::clone(&answer);
            async move { Ok::<_, std::convert::Infallible>(answer(request).await) }
        });
        let connection = builder.serve_connection(TokioIo::new(stream), service);
        // It ends with an error when the client leaves in the middle.
        tokio::task::spawn_local(async move { connection.await.ok() });
    }
}
