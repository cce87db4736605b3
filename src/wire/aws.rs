//! What every call to AWS shares: the client, the credentials, the signature put on a request, answers read within
//! bounds, AWS's own words on why not, and trying again.

pub(super) mod credentials;

use std::fmt;
use std::time::{Duration, SystemTime};

use aws_credential_types::Credentials;
use aws_sigv4::http_request::{SignableBody, SignableRequest, SigningParams, SigningSettings, sign};
use aws_sigv4::sign::v4;
use http::{HeaderMap, StatusCode};
use serde::Deserialize;

/// What one answer may hold: ten parameters of 8 KiB, a secret of 64 KiB, or fifty entries of a KeyValueStore of 1.5 KiB,
/// and all of it escaped (`\u0001` is six bytes for one).
const MAX_ANSWER: usize = 512 * 1024;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

pub(super) struct Answer {
    pub(super) headers: HeaderMap,
    pub(super) body: Vec<u8>,
}

/// Why a call failed.
pub(super) enum Fault {
    Unreachable(String),
    Refused(Words),
    /// The question cannot be asked, or the answer not be read.
    Unusable(String),
}

/// AWS's own words on why not; they name the resource and the role. Bounded, and without control characters.
pub(super) struct Words {
    pub(super) status: StatusCode,
    pub(super) kind: String,
    pub(super) message: String,
}

#[derive(Deserialize, Default)]
struct FaultAnswer {
    #[serde(rename = "__type", default)]
    kind: String,
    #[serde(alias = "Message", default)]
    message: String,
}

pub(super) fn client() -> Result<reqwest::Client, String> {
    reqwest::Client::builder()
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .connect_timeout(CONNECT_TIMEOUT)
        .build()
        .map_err(|error| format!("cannot set up the client for AWS: {error}"))
}

/// The region that the environment names.
pub(super) fn region() -> Result<String, String> {
    let region =
        variable(&["AWS_REGION", "AWS_DEFAULT_REGION"]).ok_or("there is no AWS region; set `AWS_REGION`")?;
    if !region.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-') {
        return Err("the AWS region is none; set `AWS_REGION`, such as `eu-central-1`".to_owned());
    }
    Ok(region)
}

fn variable(names: &[&str]) -> Option<String> {
    names.iter().find_map(|name| std::env::var(name).ok().filter(|value| !value.is_empty()))
}

/// A service that speaks JSON and names its operations in a header.
#[derive(Debug, Clone, Copy)]
pub(super) struct Service {
    /// In host names and signatures.
    pub(super) name: &'static str,
    /// The variable that names another endpoint.
    pub(super) endpoint_variable: &'static str,
    /// Its version of the protocol.
    pub(super) content_type: &'static str,
}

impl Service {
    /// The service's own variable, the one for all, or the region's public endpoint.
    pub(super) fn endpoint(self, region: &str) -> String {
        let domain = if region.starts_with("cn-") { "amazonaws.com.cn" } else { "amazonaws.com" };
        let mut endpoint = variable(&[self.endpoint_variable, "AWS_ENDPOINT_URL"])
            .unwrap_or_else(|| format!("https://{}.{region}.{domain}", self.name));
        if !endpoint.ends_with('/') {
            endpoint.push('/');
        }
        endpoint
    }

    /// The signed request that asks for `operation`.
    pub(super) fn request(
        self,
        endpoint: &str,
        as_whom: &Credentials,
        region: &str,
        operation: &str,
        body: &str,
    ) -> Result<reqwest::Request, String> {
        let cannot = |error: &dyn fmt::Display| format!("cannot ask `{endpoint}`: {error}");
        let request = http::Request::post(endpoint)
            .header(http::header::CONTENT_TYPE, self.content_type)
            .header("x-amz-target", operation)
            .body(body.to_owned())
            .map_err(|error| cannot(&error))?;
        let identity = as_whom.clone().into();
        let parameters = v4::SigningParams::builder()
            .identity(&identity)
            .region(region)
            .name(self.name)
            .time(SystemTime::now())
            .settings(SigningSettings::default())
            .build()
            .map_err(|error| cannot(&error))?
            .into();
        signed(request, &parameters).map_err(|error| cannot(&error))
    }
}

/// The request with the signature that `parameters` say. All of its headers are signed.
pub(super) fn signed(
    mut request: http::Request<String>,
    parameters: &SigningParams<'_>,
) -> Result<reqwest::Request, String> {
    let uri = request.uri().to_string();
    let headers: Vec<_> = request
        .headers()
        .iter()
        .filter_map(|(name, value)| Some((name.as_str(), value.to_str().ok()?)))
        .collect();
    let body = SignableBody::Bytes(request.body().as_bytes());
    let signable = SignableRequest::new(request.method().as_str(), &uri, headers.into_iter(), body)
        .map_err(|error| error.to_string())?;
    let (instructions, _) = sign(signable, parameters).map_err(|error| error.to_string())?.into_parts();
    instructions.apply_to_request_http1x(&mut request);
    reqwest::Request::try_from(request).map_err(|error| error.without_url().to_string())
}

pub(super) async fn send(client: &reqwest::Client, request: reqwest::Request) -> Result<Answer, Fault> {
    let (status, answer) = exchange(client, request).await?;
    if status.is_success() {
        return Ok(answer);
    }
    Err(Fault::Refused(Words::read(status, &answer.headers, &answer.body)))
}

/// The innermost cause; the outer texts repeat the URL, whose query may hold a signature.
pub(in crate::wire) fn reason(error: &reqwest::Error) -> String {
    let mut source: &dyn std::error::Error = error;
    while let Some(inner) = source.source() {
        source = inner;
    }
    if std::ptr::eq(source, error as &dyn std::error::Error) {
        "request failed".to_owned()
    } else {
        source.to_string()
    }
}

/// The answer, whatever its status.
pub(super) async fn exchange(
    client: &reqwest::Client,
    request: reqwest::Request,
) -> Result<(StatusCode, Answer), Fault> {
    let unreachable = |error: reqwest::Error| Fault::Unreachable(reason(&error));
    let mut response = client.execute(request).await.map_err(unreachable)?;
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(unreachable)? {
        body.extend_from_slice(&chunk);
        if body.len() > MAX_ANSWER {
            return Err(Fault::Unusable("the answer of AWS is too long".to_owned()));
        }
    }
    let headers = std::mem::take(response.headers_mut());
    Ok((response.status(), Answer { headers, body }))
}

/// Tries up to `attempts` times, with pauses that grow: AWS asks its callers to try again on throttling and on errors of
/// its own.
pub(super) async fn persistently<T, F>(
    attempts: u32,
    first_pause: Duration,
    mut attempt: impl FnMut() -> F,
) -> Result<T, Fault>
where
    F: Future<Output = Result<T, Fault>>,
{
    let mut pause = first_pause;
    let mut number = 1;
    loop {
        match attempt().await {
            Err(fault) if fault.is_passing() && number < attempts => tokio::time::sleep(pause).await,
            done => return done,
        }
        number += 1;
        pause = pause.saturating_mul(4);
    }
}

impl Fault {
    fn is_passing(&self) -> bool {
        match self {
            Self::Unreachable(_) => true,
            Self::Refused(words) => words.is_passing(),
            Self::Unusable(_) => false,
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreachable(why) => write!(f, "cannot reach AWS: {why}"),
            Self::Refused(words) => words.fmt(f),
            Self::Unusable(why) => f.write_str(why),
        }
    }
}

impl Words {
    /// The kind is in a header (rest-json) or in the body (json), the message in the body under either of two names.
    pub(super) fn read(status: StatusCode, headers: &HeaderMap, body: &[u8]) -> Self {
        let fault: FaultAnswer = serde_json::from_slice(body).unwrap_or_default();
        let header = headers.get("x-amzn-errortype").and_then(|value| value.to_str().ok());
        let kind = header.unwrap_or(&fault.kind);
        // It may come with a namespace in front (`com.amazonaws.secretsmanager#ResourceNotFoundException`) and with a
        // URL behind (`ConflictException:http://…`).
        let kind = kind.split(':').next().unwrap_or_default().rsplit('#').next().unwrap_or_default();
        Self {
            status,
            kind: kind.chars().filter(char::is_ascii_alphanumeric).take(100).collect(),
            message: fault.message.chars().filter(|c| !c.is_control()).take(300).collect(),
        }
    }

    fn is_passing(&self) -> bool {
        self.status.is_server_error()
            || self.status == StatusCode::TOO_MANY_REQUESTS
            || self.kind.contains("Throttl")
            || self.kind.contains("TooManyRequests")
    }
}

impl fmt::Display for Words {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let status = self.status.as_u16();
        match (self.kind.as_str(), self.message.as_str()) {
            ("", "") => write!(f, "AWS answered {status} without a reason"),
            (kind, "") => write!(f, "AWS answered {status} {kind}"),
            (kind, message) => write!(f, "AWS answered {status} {kind}: {message}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(header: Option<&'static str>, body: &str) -> String {
        let mut headers = HeaderMap::new();
        headers.extend(header.map(|kind| {
            (http::HeaderName::from_static("x-amzn-errortype"), http::HeaderValue::from_static(kind))
        }));
        Words::read(StatusCode::BAD_REQUEST, &headers, body.as_bytes()).to_string()
    }

    #[test]
    fn the_words_of_aws() {
        let header = Some("ConflictException:http://internal.amazon.com/coral/com.amazon.coral/");
        assert_eq!(words(header, r#"{"Message":"no"}"#), "AWS answered 400 ConflictException: no");
        let body = r#"{"__type":"com.amazonaws.ssm#ThrottlingException","message":"slow\u001b[31m\ndown"}"#;
        assert_eq!(words(None, body), "AWS answered 400 ThrottlingException: slow[31mdown");
        assert_eq!(words(None, r#"{"__type":"Denied"}"#), "AWS answered 400 Denied");
        for other in ["", "<html>", "{}", "[]", "null"] {
            assert_eq!(words(None, other), "AWS answered 400 without a reason");
        }
        let long = format!(r#"{{"__type":"X","message":"{}"}}"#, "m".repeat(9_000));
        assert!(words(None, &long).len() < 400);
    }
}
