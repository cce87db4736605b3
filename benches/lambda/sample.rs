//! The sample that Sluicegate comes from, in Rust and with the crates as they come: `url` is fetched by reqwest and streamed through
//! `lambda_runtime`, without a check. Its client has aws-lc and the platform's roots, and is made at the start, as the Go sample's
//! is, or with the first request if `SAMPLE_CLIENT=lazy`.

use std::pin::Pin;
use std::sync::LazyLock;

use bytes::Bytes;
use futures_util::stream::{Stream, StreamExt as _};
use lambda_runtime::{LambdaEvent, StreamResponse, service_fn};
use serde_json::Value;

type Fault = Box<dyn std::error::Error + Send + Sync>;
type Pieces = Pin<Box<dyn Stream<Item = Result<Bytes, Fault>> + Send>>;

static CLIENT: LazyLock<reqwest::Client> = LazyLock::new(reqwest::Client::new);

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Fault> {
    if std::env::var_os("SAMPLE_CLIENT").is_none() {
        LazyLock::force(&CLIENT);
    }
    lambda_runtime::run(service_fn(answer)).await
}

async fn answer(event: LambdaEvent<Value>) -> Result<StreamResponse<Pieces>, Fault> {
    let query = event.payload.get("rawQueryString").and_then(Value::as_str).unwrap_or_default();
    let mut pairs = url::form_urlencoded::parse(query.as_bytes());
    let (_, url) = pairs.find(|(name, _)| name == "url").ok_or("no url")?;
    let response = CLIENT.get(&*url).send().await?.error_for_status()?;
    let pieces: Pieces = response.bytes_stream().map(|piece| Ok(piece?)).boxed();
    Ok(StreamResponse::from(pieces))
}
