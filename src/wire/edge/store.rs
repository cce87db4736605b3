//! The data plane of one CloudFront KeyValueStore: `DescribeKeyValueStore`, `ListKeys` and `UpdateKeys` (API version
//! 2022-07-26, rest-json). It takes no signature but SigV4A, over the region set `*`.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime};

use aws_credential_types::Credentials;
use aws_sigv4::http_request::SigningSettings;
use aws_sigv4::sign::v4a;
use http::{HeaderValue, Method, StatusCode, header};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, Serialize};

use super::plan::{Batch, Entries};
use crate::wire::aws::{self, Answer, Fault};

/// By its name in the service's model.
const SERVICE: &str = "cloudfront-keyvaluestore";
const REGIONS: &str = "*";
const PAGE: &str = "50";
/// A store holds 5 MB: this many pages do not fit into it.
const MAX_PAGES: usize = 20_000;
const ATTEMPTS: u32 = 4;
const FIRST_PAUSE: Duration = Duration::from_millis(200);
const TIMEOUT: Duration = Duration::from_secs(5);
/// RFC 3986's unreserved characters stay; whatever else is encoded reads the same to every signer.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');
/// How much of a value may be repeated in an error before the error is kept back.
const MAX_REPEATED: usize = 8;

pub(super) struct Store {
    client: reqwest::Client,
    credentials: Credentials,
    url: String,
    calls: AtomicUsize,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Page {
    next_token: Option<String>,
    #[serde(default)]
    items: Vec<Item>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Item {
    key: String,
    value: SecretString,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Update<'a> {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    puts: Vec<Put<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    deletes: Vec<Delete<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Put<'a> {
    key: &'a str,
    value: &'a str,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Delete<'a> {
    key: &'a str,
}

impl Store {
    /// The store behind `arn`, for whom the environment says we are. Nothing is asked of it yet.
    pub(super) async fn open(arn: &str) -> Result<Self, String> {
        let endpoint = endpoint(account(arn)?);
        let client = aws::client()?;
        let credentials = aws::credentials::current(&client).await?;
        let url = format!("{endpoint}/key-value-stores/{}", utf8_percent_encode(arn, ENCODED));
        Ok(Self { client, credentials, url, calls: AtomicUsize::new(0) })
    }

    /// Requests sent so far, those that failed among them.
    pub(super) fn calls(&self) -> usize {
        self.calls.load(Ordering::Relaxed)
    }

    /// The current version of the store, to be named when it is changed.
    pub(super) async fn version(&self) -> Result<HeaderValue, Fault> {
        version(&self.call(&Method::GET, "", None, "").await?)
    }

    /// Everything in it, page by page.
    pub(super) async fn entries(&self) -> Result<Entries, Fault> {
        let mut entries = Entries::new();
        let mut path = format!("/keys?MaxResults={PAGE}");
        for _ in 0..MAX_PAGES {
            let answer = self.call(&Method::GET, &path, None, "").await?;
            let page: Page = serde_json::from_slice(&answer.body)
                .map_err(|_| Fault::Unusable("the answer of AWS cannot be read".to_owned()))?;
            entries.extend(page.items.into_iter().map(|item| (item.key, item.value)));
            let Some(token) = page.next_token.filter(|token| !token.is_empty()) else { return Ok(entries) };
            path = format!("/keys?MaxResults={PAGE}&NextToken={}", utf8_percent_encode(&token, ENCODED));
        }
        Err(Fault::Unusable("AWS lists more entries than a store can hold".to_owned()))
    }

    /// Writes a batch into the store of that version; gives back the new one.
    pub(super) async fn update(&self, old: &HeaderValue, batch: &Batch) -> Result<HeaderValue, Fault> {
        let puts = batch.puts.iter().map(|(key, value)| Put { key, value: value.expose_secret() });
        let deletes = batch.deletes.iter().map(|key| Delete { key });
        let update = Update { puts: puts.collect(), deletes: deletes.collect() };
        let body = serde_json::to_string(&update).map_err(|_| Fault::Unusable("no JSON".to_owned()))?;
        match self.call(&Method::POST, "/keys", Some(old), &body).await {
            Ok(answer) => version(&answer),
            Err(fault) => Err(without_values(fault, batch)),
        }
    }

    async fn call(
        &self,
        method: &Method,
        path: &str,
        of: Option<&HeaderValue>,
        body: &str,
    ) -> Result<Answer, Fault> {
        aws::persistently(ATTEMPTS, FIRST_PAUSE, || async {
            let request = self.request(method, path, of, body).map_err(Fault::Unusable)?;
            self.calls.fetch_add(1, Ordering::Relaxed);
            aws::send(&self.client, request).await
        })
        .await
    }

    fn request(
        &self,
        method: &Method,
        path: &str,
        of: Option<&HeaderValue>,
        body: &str,
    ) -> Result<reqwest::Request, String> {
        let cannot = |error: &dyn std::fmt::Display| format!("cannot ask `{}`: {error}", self.url);
        let mut request = http::Request::builder().method(method).uri(format!("{}{path}", self.url));
        if let Some(version) = of {
            request = request.header(header::IF_MATCH, version);
        }
        if !body.is_empty() {
            request = request.header(header::CONTENT_TYPE, "application/json");
        }
        let request = request.body(body.to_owned()).map_err(|error| cannot(&error))?;
        let identity = self.credentials.clone().into();
        // By default the path is encoded once more when it is signed (`%3A` as `%253A`), as every service but S3 wants it.
        let parameters = v4a::SigningParams::builder()
            .identity(&identity)
            .region_set(REGIONS)
            .name(SERVICE)
            .time(SystemTime::now())
            .settings(SigningSettings::default())
            .build()
            .map_err(|error| cannot(&error))?
            .into();
        let mut request = aws::signed(request, &parameters).map_err(|error| cannot(&error))?;
        *request.timeout_mut() = Some(TIMEOUT);
        Ok(request)
    }
}

/// Was the store changed since we looked? The model names `ConflictException` (409). A failed `If-Match` is 412 by
/// RFC 9110, and a service may call it a validation error; taking one for a conflict costs a few more looks.
pub(super) fn is_conflict(fault: &Fault) -> bool {
    let Fault::Refused(words) = fault else { return false };
    let message = words.message.to_ascii_lowercase();
    matches!(words.status, StatusCode::CONFLICT | StatusCode::PRECONDITION_FAILED)
        || words.kind == "ConflictException"
        || (words.kind == "ValidationException"
            && ["etag", "if-match", "ifmatch", "pre-condition", "precondition"]
                .iter()
                .any(|word| message.contains(word)))
}

/// An error of validation may repeat what was sent. Then its words are kept back.
fn without_values(fault: Fault, batch: &Batch) -> Fault {
    let Fault::Refused(mut words) = fault else { return fault };
    if batch.puts.iter().any(|(_, value)| repeats(&words.message, value.expose_secret())) {
        "its words repeat a value and are not shown".clone_into(&mut words.message);
    }
    Fault::Refused(words)
}

/// Does a piece of the value stand in the message?
fn repeats(message: &str, value: &str) -> bool {
    let characters: Vec<char> = value.chars().collect();
    characters
        .windows(MAX_REPEATED.min(characters.len()).max(1))
        .any(|piece| message.contains(&piece.iter().collect::<String>()))
}

fn version(answer: &Answer) -> Result<HeaderValue, Fault> {
    let missing = || Fault::Unusable("the answer of AWS has no `ETag`".to_owned());
    answer.headers.get(header::ETAG).cloned().ok_or_else(missing)
}

/// The account that a store belongs to. Outside of the partition `aws` there is no such service.
fn account(arn: &str) -> Result<&str, String> {
    let parts: Vec<&str> = arn.splitn(6, ':').collect();
    let visible = arn.len() <= 2048 && arn.bytes().all(|b| b.is_ascii_graphic());
    match parts.as_slice() {
        ["arn", "aws", "cloudfront", "", account, store]
            if visible
                && account.len() == 12
                && account.bytes().all(|b| b.is_ascii_digit())
                && store.strip_prefix("key-value-store/").is_some_and(|id| !id.is_empty()) =>
        {
            Ok(account)
        }
        _ => Err(format!(
            "`{}` is not the ARN of a KeyValueStore; write it as \
             `arn:aws:cloudfront::123456789012:key-value-store/ID`",
            arn.escape_debug()
        )),
    }
}

/// The service's own variable or the one for all, as it stands (AWS's SDKs put the account in front of its host, which an
/// address does not bear); or the account's public endpoint.
fn endpoint(account: &str) -> String {
    let given = ["AWS_ENDPOINT_URL_CLOUDFRONT_KEYVALUESTORE", "AWS_ENDPOINT_URL"]
        .into_iter()
        .find_map(|name| std::env::var(name).ok().filter(|value| !value.is_empty()));
    let endpoint = given.unwrap_or_else(|| format!("https://{account}.cloudfront-kvs.global.api.aws"));
    endpoint.trim_end_matches('/').to_owned()
}
