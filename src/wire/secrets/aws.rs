//! The two AWS calls that bring secrets: `GetSecretValue` and `GetParameters`, signed by AWS's own signer.

use std::collections::HashMap;
use std::time::{Duration, SystemTime};

use aws_credential_types::Credentials;
use aws_sigv4::http_request::SigningSettings;
use aws_sigv4::sign::v4;
use secrecy::SecretString;
use serde::Deserialize;
use serde_json::json;

use crate::wire::aws;

/// Attempts of one call.
const ATTEMPTS: u32 = 3;
const FIRST_PAUSE: Duration = Duration::from_millis(100);
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

/// Why there is no answer.
#[derive(Debug, Clone)]
pub(super) enum Fault {
    /// AWS answered, and its answer is no: there is no such thing, or not for us.
    Absent(String),
    /// AWS could not be asked, or did not say.
    Silent(String),
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
        Ok(Self { client: aws::client()?, region })
    }

    pub(super) async fn credentials(&self) -> Result<Credentials, String> {
        aws::credentials::current(&self.client).await
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
        let answer = aws::persistently(ATTEMPTS, FIRST_PAUSE, || async {
            let request = self.request(as_whom, service, operation, &body).map_err(aws::Fault::Unusable)?;
            aws::send(&self.client, request).await
        });
        answer.await.map(|answer| answer.body).map_err(|fault| Fault::of(&fault))
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
        let request = http::Request::post(&endpoint)
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
        aws::signed(request, &parameters).map_err(|error| cannot(&error))
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

impl Fault {
    fn of(fault: &aws::Fault) -> Self {
        match fault {
            aws::Fault::Refused(words) if ABSENT.iter().any(|known| words.kind.starts_with(known)) => {
                Self::Absent(fault.to_string())
            }
            _ => Self::Silent(fault.to_string()),
        }
    }
}

fn unreadable() -> Fault {
    Fault::Silent("the answer of AWS cannot be read".to_owned())
}
