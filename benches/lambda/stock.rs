//! What the Lambda door is measured against: `lambda_runtime` as it comes. It answers an event with nothing, or streams as
//! many zero bytes as the event's query says.

use std::convert::Infallible;

use bytes::Bytes;
use futures_util::stream::{self, Stream, StreamExt as _};
use lambda_runtime::{FunctionResponse, LambdaEvent, StreamResponse, service_fn};
use serde_json::{Value, json};

type Answer =
    FunctionResponse<Value, std::pin::Pin<Box<dyn Stream<Item = Result<Bytes, Infallible>> + Send>>>;

/// The size of one piece, that of a read by our own upstream client.
const PIECE: usize = 64 * 1024;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), lambda_runtime::Error> {
    lambda_runtime::run(service_fn(answer)).await
}

async fn answer(event: LambdaEvent<Value>) -> Result<Answer, Infallible> {
    let query = event.payload.get("rawQueryString").and_then(Value::as_str);
    let length = query.and_then(|text| text.parse::<usize>().ok());
    let Some(length) = length.filter(|length| *length > 0) else {
        return Ok(FunctionResponse::BufferedResponse(json!({})));
    };
    let pieces = stream::iter((0..length).step_by(PIECE)).map(move |from| {
        static ZEROS: [u8; PIECE] = [0; PIECE];
        Ok(Bytes::from_static(ZEROS.get(..PIECE.min(length.saturating_sub(from))).unwrap_or(&[])))
    });
    Ok(FunctionResponse::StreamingResponse(StreamResponse::from(pieces.boxed())))
}
