//! The two AWS calls that bring secrets: `GetSecretValue` and `GetParameters`, signed by AWS's own signer.

use std::collections::HashMap;
use std::time::{Duration, SystemTime};

use aws_credential_types::Credentials;
use aws_sigv4::http_request::{SignableBody, SignableRequest, SigningSettings, sign};
use aws_sigv4::sign::v4;
use secrecy::SecretString;
use serde::Deserialize;
use serde_json::json;

/// Attempts of one call; AWS asks its callers to try again on throttling and on errors of its own.
const ATTEMPTS: u32 = 3;
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// What one answer may hold: ten parameters of 8 KiB, or a secret of 64 KiB, escaped.
const MAX_ANSWER: usize = 512 * 1024;
/// Errors that are an answer about what was asked for, and not about who asks or how AWS is.
const ABSENT: [&str; 7] = [
    "ResourceNotFound",
    "ParameterNotFound",
    "InvalidRequest",
    "InvalidParameter",
    "ValidationException",
    "AccessDenied",
    "DecryptionFailure",
];
/// The most names in one `GetParameters`.
pub(super) const PARAMETERS_PER_CALL: usize = 10;

/// Speaks to one region.
pub(super) struct Aws {
    client: reqwest::Client,
    region: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct SecretAnswer {
    secret_string: Option<SecretString>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ParametersAnswer {
    #[serde(default)]
    parameters: Vec<Parameter>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Parameter {
    name: String,
    #[serde(rename = "ARN")]
    arn: Option<String>,
    value: SecretString,
}

#[derive(Deserialize)]
struct FaultAnswer {
    #[serde(rename = "__type", default)]
    kind: String,
    #[serde(alias = "Message", default)]
    message: String,
}

/// Why there is no answer.
#[derive(Debug, Clone)]
pub(super) enum Fault {
    /// AWS answered, and its answer is no: there is no such thing, or not for us.
    Absent(String),
    /// AWS could not be asked, or did not say.
    Silent(String),
}

/// Why a call failed, and whether it may be tried again.
struct CallFault {
    fault: Fault,
    passing: bool,
}

impl Aws {
    pub(super) fn new() -> Result<Self, String> {
        let region = ["AWS_REGION", "AWS_DEFAULT_REGION"]
            .into_iter()
            .find_map(|name| std::env::var(name).ok().filter(|value| !value.is_empty()))
            .ok_or("there is no AWS region; set `AWS_REGION`")?;
        if !region.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-') {
            return Err("the AWS region is none; set `AWS_REGION`, such as `eu-central-1`".to_owned());
        }
        let client = reqwest::Client::builder()
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(Duration::from_secs(2))
            .build()
            .map_err(|error| format!("cannot set up the client for AWS: {error}"))?;
        Ok(Self { client, region })
    }

    pub(super) async fn credentials(&self) -> Result<Credentials, String> {
        super::credentials::current(&self.client).await
    }

    /// The text of a secret.
    pub(super) async fn secret(&self, as_whom: &Credentials, name: &str) -> Result<SecretString, Fault> {
        let answer = self
            .call(as_whom, "secretsmanager", "secretsmanager.GetSecretValue", &json!({ "SecretId": name }))
            .await?;
        let read: SecretAnswer = serde_json::from_slice(&answer).map_err(|_| unreadable())?;
        read.secret_string.ok_or_else(|| Fault::Absent("the secret is binary; store it as text".to_owned()))
    }

    /// The values of at most ten parameters, by name and by ARN. What does not exist is not in the map.
    pub(super) async fn parameters(
        &self,
        as_whom: &Credentials,
        names: &[&str],
    ) -> Result<HashMap<String, SecretString>, Fault> {
        let question = json!({ "Names": names, "WithDecryption": true });
        let answer = self.call(as_whom, "ssm", "AmazonSSM.GetParameters", &question).await?;
        let read: ParametersAnswer = serde_json::from_slice(&answer).map_err(|_| unreadable())?;
        let mut values = HashMap::new();
        for parameter in read.parameters {
            values.extend(parameter.arn.map(|arn| (arn, parameter.value.clone())));
            values.insert(parameter.name, parameter.value);
        }
        Ok(values)
    }

    async fn call(
        &self,
        as_whom: &Credentials,
        service: &'static str,
        operation: &'static str,
        question: &serde_json::Value,
    ) -> Result<Vec<u8>, Fault> {
        let body = question.to_string();
        let mut pause = FIRST_PAUSE;
        let mut attempt = 1;
        loop {
            match self.attempt(as_whom, service, operation, &body).await {
                Ok(answer) => return Ok(answer),
                Err(failed) if !failed.passing || attempt == ATTEMPTS => return Err(failed.fault),
                Err(_) => tokio::time::sleep(pause).await,
            }
            attempt += 1;
            pause *= 4;
        }
    }

    async fn attempt(
        &self,
        as_whom: &Credentials,
        service: &'static str,
        operation: &'static str,
        body: &str,
    ) -> Result<Vec<u8>, CallFault> {
        let request = self.request(as_whom, service, operation, body).map_err(CallFault::silent)?;
        let unreachable = |error: reqwest::Error| CallFault {
            fault: Fault::Silent(format!("cannot reach AWS: {}", crate::wire::origin::reason(&error))),
            passing: true,
        };
        let mut response = self.client.execute(request).await.map_err(unreachable)?;
        let mut answer = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(unreachable)? {
            answer.extend_from_slice(&chunk);
            if answer.len() > MAX_ANSWER {
                return Err(CallFault::silent("the answer of AWS is too long".to_owned()));
            }
        }
        if response.status().is_success() { Ok(answer) } else { Err(refused(response.status(), &answer)) }
    }

    fn request(
        &self,
        as_whom: &Credentials,
        service: &'static str,
        operation: &'static str,
        body: &str,
    ) -> Result<reqwest::Request, String> {
        let endpoint = self.endpoint(service);
        let cannot = |error: &dyn std::fmt::Display| format!("cannot ask `{endpoint}`: {error}");
        let mut request = http::Request::post(&endpoint)
            .header(http::header::CONTENT_TYPE, "application/x-amz-json-1.1")
            .header("x-amz-target", operation)
            .body(body.to_owned())
            .map_err(|error| cannot(&error))?;
        let identity = as_whom.clone().into();
        let parameters = v4::SigningParams::builder()
            .identity(&identity)
            .region(&self.region)
            .name(service)
            .time(SystemTime::now())
            .settings(SigningSettings::default())
            .build()
            .map_err(|error| cannot(&error))?
            .into();
        let headers: Vec<_> = request
            .headers()
            .iter()
            .filter_map(|(name, value)| Some((name.as_str(), value.to_str().ok()?)))
            .collect();
        let signable = SignableRequest::new(
            "POST",
            &endpoint,
            headers.into_iter(),
            SignableBody::Bytes(body.as_bytes()),
        )
        .map_err(|error| cannot(&error))?;
        let (instructions, _) = sign(signable, &parameters).map_err(|error| cannot(&error))?.into_parts();
        instructions.apply_to_request_http1x(&mut request);
        reqwest::Request::try_from(request).map_err(|error| cannot(&error.without_url()))
    }

    /// The service's own variable, the one for all, or the region's public endpoint.
    fn endpoint(&self, service: &str) -> String {
        let own = if service == "ssm" { "AWS_ENDPOINT_URL_SSM" } else { "AWS_ENDPOINT_URL_SECRETS_MANAGER" };
        let given = [own, "AWS_ENDPOINT_URL"]
            .into_iter()
            .find_map(|name| std::env::var(name).ok().filter(|value| !value.is_empty()));
        let domain = if self.region.starts_with("cn-") { "amazonaws.com.cn" } else { "amazonaws.com" };
        let mut endpoint = given.unwrap_or_else(|| format!("https://{service}.{}.{domain}", self.region));
        if !endpoint.ends_with('/') {
            endpoint.push('/');
        }
        endpoint
    }
}

impl CallFault {
    fn silent(text: String) -> Self {
        Self { fault: Fault::Silent(text), passing: false }
    }
}

/// AWS's own words on why not; they name the resource and the role, never a secret.
fn refused(status: http::StatusCode, answer: &[u8]) -> CallFault {
    let fault: FaultAnswer =
        serde_json::from_slice(answer).unwrap_or(FaultAnswer { kind: String::new(), message: String::new() });
    // The type may come with a namespace in front: `com.amazonaws.secretsmanager#ResourceNotFoundException`.
    let kind = fault.kind.rsplit('#').next().unwrap_or_default();
    let kind: String = kind.chars().filter(char::is_ascii_alphanumeric).take(100).collect();
    let passing = status.is_server_error()
        || status == http::StatusCode::TOO_MANY_REQUESTS
        || kind.contains("Throttl")
        || kind.contains("TooManyRequests");
    let message: String = fault.message.chars().filter(|c| !c.is_control()).take(300).collect();
    let status = status.as_u16();
    let text = match (kind.as_str(), message.as_str()) {
        ("", "") => format!("AWS answered {status} without a reason"),
        _ => format!("AWS answered {status} {kind}: {message}"),
    };
    let absent = ABSENT.iter().any(|known| kind.starts_with(known));
    CallFault { fault: if absent { Fault::Absent(text) } else { Fault::Silent(text) }, passing }
}

fn unreadable() -> Fault {
    Fault::Silent("the answer of AWS cannot be read".to_owned())
}
