//! The two AWS calls that bring secrets: `GetSecretValue` and `GetParameters`, signed by AWS's own signer.

use std::collections::HashMap;
use std::time::Duration;

use aws_credential_types::Credentials;
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

const SECRETS_MANAGER: aws::Service = aws::Service {
    name: "secretsmanager",
    endpoint_variable: "AWS_ENDPOINT_URL_SECRETS_MANAGER",
    content_type: "application/x-amz-json-1.1",
};
const PARAMETER_STORE: aws::Service = aws::Service {
    name: "ssm",
    endpoint_variable: "AWS_ENDPOINT_URL_SSM",
    content_type: "application/x-amz-json-1.1",
};

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
        Ok(Self { client: aws::client()?, region: aws::region()? })
    }

    pub(super) async fn credentials(&self) -> Result<Credentials, String> {
        aws::credentials::current(&self.client).await
    }

    /// The text of a secret.
    pub(super) async fn secret(&self, as_whom: &Credentials, name: &str) -> Result<SecretString, Fault> {
        let answer = self
            .call(as_whom, SECRETS_MANAGER, "secretsmanager.GetSecretValue", &json!({ "SecretId": name }))
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
        let answer = self.call(as_whom, PARAMETER_STORE, "AmazonSSM.GetParameters", &question).await?;
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
        service: aws::Service,
        operation: &'static str,
        question: &serde_json::Value,
    ) -> Result<Vec<u8>, Fault> {
        let body = question.to_string();
        let answer = aws::persistently(ATTEMPTS, FIRST_PAUSE, || async {
            let request = service
                .request(&service.endpoint(&self.region), as_whom, &self.region, operation, &body)
                .map_err(aws::Fault::Unusable)?;
            aws::send(&self.client, request).await
        });
        answer.await.map(|answer| answer.body).map_err(|fault| Fault::of(&fault))
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
