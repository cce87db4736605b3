//! The Lambda function under test.

use std::ops::Deref;
use std::process::Command;

use serde_json::{Value, json};

use super::process::Process;
use super::{Posted, RuntimeApi, Setup};

/// A running `bootstrap` that has asked for its first invocation.
pub(crate) struct Function {
    // Before the API: it ends first.
    process: Process,
    pub(crate) api: RuntimeApi,
}

impl Deref for Function {
    type Target = Process;

    fn deref(&self) -> &Process {
        &self.process
    }
}

impl Function {
    pub(crate) fn start(setup: Setup) -> Self {
        let api = RuntimeApi::start();
        let process = Self::spawn(Command::new(super::bootstrap()), &api, setup);
        api.wait_polls(1);
        Self { process, api }
    }

    /// The process alone, which may fail to start.
    pub(crate) fn spawn(command: Command, api: &RuntimeApi, setup: Setup) -> Process {
        let setup = setup
            .default_variable("AWS_LAMBDA_RUNTIME_API", &api.address().to_string())
            .default_variable("AWS_LAMBDA_FUNCTION_NAME", "sluicegate")
            .default_variable("AWS_LAMBDA_FUNCTION_VERSION", "$LATEST")
            .default_variable("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "256");
        Process::start(command, &setup)
    }

    /// Ends the process: its exit code, and all that it wrote.
    pub(crate) fn end(&mut self) -> (Option<i32>, String) {
        self.process.end()
    }

    /// One invocation, from its event to the end of its answer.
    pub(crate) fn invoke(&self, event: &Value) -> Posted {
        let id = self.api.invoke(event);
        self.api.posted(&id)
    }

    /// A request as the function URL passes it on.
    pub(crate) fn request(&self, method: &str, query: &str, headers: &[(&str, &str)]) -> Posted {
        self.invoke(&event(method, "/", query, headers))
    }

    pub(crate) fn get(&self, query: &str) -> Posted {
        self.request("GET", query, &[])
    }
}

/// A function URL's event (payload format 2.0). Repeated headers are joined, as the platform does.
pub(crate) fn event(method: &str, path: &str, query: &str, headers: &[(&str, &str)]) -> Value {
    let mut fields = serde_json::Map::new();
    fields.insert("host".to_owned(), "abc.lambda-url.us-east-1.on.aws".into());
    for (name, value) in headers {
        let joined = match fields.get(*name).and_then(Value::as_str) {
            Some(first) => format!("{first},{value}"),
            None => (*value).to_owned(),
        };
        fields.insert((*name).to_owned(), joined.into());
    }
    json!({
        "version": "2.0", "routeKey": "$default", "rawPath": path, "rawQueryString": query, "headers": fields,
        // What a decoding parser makes of the query; nobody must look at it.
        "queryStringParameters": { "url": "http://parsed.example/", "sig": "parsed" },
        "requestContext": {
            "accountId": "123456789012", "apiId": "abc", "domainName": "abc.lambda-url.us-east-1.on.aws",
            "domainPrefix": "abc", "requestId": "url-request", "routeKey": "$default", "stage": "$default",
            "time": "24/Nov/2026:00:00:00 +0000", "timeEpoch": 1_795_478_400_000_u64,
            "http": { "method": method, "path": path, "protocol": "HTTP/1.1", "sourceIp": "192.0.2.1", "userAgent": "test" },
        },
        "isBase64Encoded": false,
    })
}
