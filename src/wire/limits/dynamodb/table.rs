//! The two calls to the table: `UpdateItem` under a condition, and `GetItem` (API version 2012-08-10).

use std::time::{Duration, Instant};

use aws_credential_types::Credentials;
use http::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::Mutex;

use crate::wire::aws::{self, Answer, Words};
use crate::wire::limits::store::Away;

use super::change::Change;
use super::item::{Attributes, State};

const DYNAMODB: aws::Service = aws::Service {
    name: "dynamodb",
    endpoint_variable: "AWS_ENDPOINT_URL_DYNAMODB",
    content_type: "application/x-amz-json-1.0",
};
/// How long credentials are used. A container gets new ones long before the old ones end.
const CREDENTIALS_AGE: Duration = Duration::from_secs(300);
const THROTTLED: [&str; 3] =
    ["ProvisionedThroughputExceededException", "RequestLimitExceeded", "ThrottlingException"];
const CONDITION_FAILED: &str = "ConditionalCheckFailedException";

pub(super) struct Table {
    client: reqwest::Client,
    endpoint: String,
    region: String,
    name: String,
    given: Option<Credentials>,
    fetched: Mutex<Option<(Instant, Credentials)>>,
}

/// What became of a change.
pub(super) enum Outcome {
    /// It was made; the item is now so.
    Made(State),
    /// Its condition does not hold, because the item is so; where the table does not say how, it is `None`.
    NotMade(Option<State>),
}

#[derive(Deserialize)]
struct Item {
    #[serde(rename = "Item", alias = "Attributes")]
    item: Option<Attributes>,
}

impl Table {
    /// In the environment's region, as whom the environment says.
    pub(super) fn new(name: &str) -> Result<Self, String> {
        let region = aws::region()?;
        Self::open(name, DYNAMODB.endpoint(&region), region, None)
    }

    /// At `endpoint`, as whom these credentials say.
    pub(super) fn at(endpoint: &str, region: &str, as_whom: Credentials, name: &str) -> Result<Self, String> {
        Self::open(name, endpoint.to_owned(), region.to_owned(), Some(as_whom))
    }

    fn open(
        name: &str,
        endpoint: String,
        region: String,
        given: Option<Credentials>,
    ) -> Result<Self, String> {
        let name = name.to_owned();
        Ok(Self { client: aws::client()?, endpoint, region, name, given, fetched: Mutex::default() })
    }

    pub(super) async fn update(&self, id: &str, change: Change) -> Result<Outcome, Away> {
        let (status, answer) = self.call("UpdateItem", &change.question(&self.name, id)).await?;
        if status.is_success() {
            return Ok(Outcome::Made(state(&answer)?.unwrap_or_default()));
        }
        let words = Words::read(status, &answer.headers, &answer.body);
        if words.kind == CONDITION_FAILED {
            return Ok(Outcome::NotMade(state(&answer)?));
        }
        Err(refusal(&words))
    }

    /// An item that does not exist is as good as one that nobody used for long.
    pub(super) async fn get(&self, id: &str) -> Result<State, Away> {
        let question =
            json!({ "TableName": self.name, "Key": { "id": { "S": id } }, "ConsistentRead": true });
        let (status, answer) = self.call("GetItem", &question).await?;
        if status.is_success() {
            return Ok(state(&answer)?.unwrap_or_default());
        }
        Err(refusal(&Words::read(status, &answer.headers, &answer.body)))
    }

    async fn call(&self, operation: &str, question: &Value) -> Result<(StatusCode, Answer), Away> {
        let as_whom = self.credentials().await.map_err(Away::untouched)?;
        let operation = format!("DynamoDB_20120810.{operation}");
        let request = DYNAMODB
            .request(&self.endpoint, &as_whom, &self.region, &operation, &question.to_string())
            .map_err(Away::untouched)?;
        aws::exchange(&self.client, request).await.map_err(|fault| Away::unsure(fault.to_string()))
    }

    async fn credentials(&self) -> Result<Credentials, String> {
        if let Some(given) = &self.given {
            return Ok(given.clone());
        }
        let mut kept = self.fetched.lock().await;
        if let Some((since, credentials)) = kept.as_ref()
            && since.elapsed() < CREDENTIALS_AGE
        {
            return Ok(credentials.clone());
        }
        let fresh = aws::credentials::current(&self.client).await?;
        *kept = Some((Instant::now(), fresh.clone()));
        Ok(fresh)
    }
}

/// An item that is asked for too often is throttled by itself; the table may serve all others.
fn refusal(words: &Words) -> Away {
    if THROTTLED.contains(&words.kind.as_str()) {
        return Away::local(words.to_string());
    }
    Away::unsure(words.to_string())
}

fn state(answer: &Answer) -> Result<Option<State>, Away> {
    let read: Item = serde_json::from_slice(&answer.body)
        .map_err(|_| Away::unsure("the answer of DynamoDB cannot be read"))?;
    Ok(read.item.as_ref().map(State::read))
}
