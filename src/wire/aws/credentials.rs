//! Who the process is to AWS: the environment, as on Lambda, or the endpoint that ECS and EKS give a container.

use std::net::IpAddr;
use std::time::Duration;

use aws_credential_types::Credentials;
use serde::Deserialize;
use url::{Host, Url};

use crate::wire::secrets::{MAX_BYTES, read_regular};

/// Where ECS answers (relative addresses), and beside it EKS Pod Identity.
const CONTAINER_HOST: &str = "http://169.254.170.2";
const CONTAINER_ADDRESSES: [&str; 3] = ["169.254.170.2", "169.254.170.23", "fd00:ec2::23"];
const TIMEOUT: Duration = Duration::from_secs(2);
const NAME: &str = "sluicegate";

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Document {
    access_key_id: String,
    secret_access_key: String,
    token: Option<String>,
}

/// Credentials for the calls that follow at once. They are not kept: containers get new ones every few hours.
pub(in crate::wire) async fn current(client: &reqwest::Client) -> Result<Credentials, String> {
    if let (Some(id), Some(secret)) = (variable("AWS_ACCESS_KEY_ID"), variable("AWS_SECRET_ACCESS_KEY")) {
        return credentials(id, secret, variable("AWS_SESSION_TOKEN"));
    }
    let Some(endpoint) = container_endpoint()? else {
        return Err("there are no AWS credentials; set `AWS_ACCESS_KEY_ID` and `AWS_SECRET_ACCESS_KEY`, or run \
                    where a container credentials endpoint is given (profiles and instance metadata are not read)"
            .to_owned());
    };
    let mut request = client.get(endpoint).timeout(TIMEOUT);
    if let Some(token) = container_token()? {
        request = request.header(http::header::AUTHORIZATION, token);
    }
    let failed = |error: reqwest::Error| {
        format!("the container credentials endpoint does not answer: {}", super::reason(&error))
    };
    let response = request.send().await.and_then(reqwest::Response::error_for_status).map_err(failed)?;
    let bytes = response.bytes().await.map_err(failed)?;
    let document: Document = serde_json::from_slice(&bytes)
        .map_err(|_| "the container credentials endpoint answered with no credentials".to_owned())?;
    let token = document.token.filter(|token| !token.is_empty());
    credentials(document.access_key_id, document.secret_access_key, token)
}

/// What cannot stand in a header field would end the signer in a panic.
fn credentials(id: String, secret: String, token: Option<String>) -> Result<Credentials, String> {
    let visible = |text: &str| text.bytes().all(|b| b.is_ascii_graphic());
    if [Some(&id), Some(&secret), token.as_ref()].into_iter().flatten().all(|text| visible(text)) {
        return Ok(Credentials::new(id, secret, token, None, NAME));
    }
    Err("the AWS credentials hold characters that credentials do not have".to_owned())
}

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// The endpoint, https or one of the addresses that AWS documents: credentials for it do not go anywhere else.
fn container_endpoint() -> Result<Option<Url>, String> {
    let text = match (
        variable("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI"),
        variable("AWS_CONTAINER_CREDENTIALS_FULL_URI"),
    ) {
        (Some(path), _) => format!("{CONTAINER_HOST}{path}"),
        (None, Some(full)) => full,
        (None, None) => return Ok(None),
    };
    let wrong =
        || "the container credentials endpoint is neither https nor one of the container's own addresses";
    let endpoint = Url::parse(&text).map_err(|_| wrong().to_owned())?;
    let own =
        |ip: IpAddr| ip.is_loopback() || CONTAINER_ADDRESSES.iter().any(|known| known.parse() == Ok(ip));
    let good = match endpoint.host() {
        Some(Host::Ipv4(ip)) => own(ip.into()),
        Some(Host::Ipv6(ip)) => own(ip.into()),
        _ => false,
    };
    if good || endpoint.scheme() == "https" { Ok(Some(endpoint)) } else { Err(wrong().to_owned()) }
}

/// The token changes; the file is read each time.
fn container_token() -> Result<Option<String>, String> {
    match variable("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE") {
        Some(path) => read_regular(path.as_ref(), MAX_BYTES)
            .map(|text| Some(text.trim().to_owned()))
            .map_err(|why| format!("cannot read `{path}` (`AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE`): {why}")),
        None => Ok(variable("AWS_CONTAINER_AUTHORIZATION_TOKEN")),
    }
}
