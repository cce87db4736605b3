// The viewer-request function of the distribution (CloudFront Functions, runtime cloudfront-js-2.0).
//
// It runs in front of the cache, on every request. A file that is cached is served without asking the origin, so whoever
// may not have it is stopped here. It reads the request as the gate does (docs/link-format.md), verifies links and HS256
// tokens with keys from the KeyValueStore, and says under which name the cache may keep the answer: the partition. What it
// cannot judge gets a partition of its own, so that only the very same credential finds what the origin let it have.
//
// The files of this folder are joined into one script of at most 10 KB (edge/build.mjs). The runtime is njs:
//
// - Not there: `?.`, `for of`, destructuring, spread, classes, `await` within the arguments of a call.
// - `var` only: njs 0.7.9 loses block-scoped variables of functions that were inlined.
// - `$` in a regular expression also matches in front of a newline at the end. So what may hold one is compared otherwise.
// - An error that nothing catches is a 503: closed.

import cf from 'cloudfront';
import crypto from 'crypto';

var store = cf.kvs();

async function handler(event) {
    var request = event.request;
    var headers = request.headers;
    var id = event.context.requestId;
    var client = event.viewer.ip;
    var tokens = takeTokens(headers);
    dropOurs(headers);
    say(headers, 'client', client);
    // Preflights and health checks are the origin's to answer; neither is cached. Other methods do not get here.
    if ((request.method !== 'GET' && request.method !== 'HEAD') || request.uri === '/healthz') {
        return request;
    }
    try {
        if (request.uri !== '/') {
            refuse('not_found');
        }
        var parameters = readQuery(request.rawQueryString() || '');
        var passage = await admit(parameters, tokens, Math.floor(Date.now() / 1000), client);
        request.querystring = writeQuery(passage.query);
        if (tokens.length && !('token' in parameters)) {
            say(headers, 'token', tokens[0]);
        }
        // Without a partition, one of this request alone: CloudFront asks once for all who want the same at the same time.
        say(headers, 'partition', passage.partition || id);
        // For viewer-response, which sees what is set here.
        say(headers, 'request', id);
        say(headers, 'link', noteOf(passage.claims));
        return request;
    } catch (fault) {
        if (!fault.refused) {
            throw fault;
        }
        return await refusal(fault, id);
    }
}

// One credential, or none. Not async itself, as each such call costs as much as reading a parameter.
function admit(parameters, tokens, now, client) {
    if ('token' in parameters) {
        tokens.push(parameters.token);
    }
    if (tokens.length > 1) {
        malformed('The request carries more than one token.');
    }
    return tokens.length
        ? admitToken(readToken(tokens[0]), parameters, now, client)
        : admitLink(parameters, now, client);
}

function noteOf(claims) {
    return `${claims.exp} ${claims.disposition || 'attachment'} ${encodeURIComponent(claims.filename || '')}`;
}
