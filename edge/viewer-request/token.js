// Tokens: taken apart, and proven where the runtime can, which is HS256. docs/link-format.md section 5; src/gate/jwt.rs,
// src/gate/grant.rs.

// Which parameter of a link a claim stands for.
var CLAIMS = { url: 'url', filename: 'filename', disposition: 'disposition', jti: 'id', ip: 'ip', exp: 'exp', nbf: 'nbf', iat: 'iat' };

async function admitToken(token, parameters, now, client) {
    var asked = parameters.url;
    var body = token.body.object;
    var beside = Object.keys(parameters).filter((name) => !/^(?:url|token)$/.test(name))[0];
    if (beside) {
        malformed(`Parameter \`${beside}\` belongs into the token.`);
    }
    if (token.head.object === null || body === null) {
        return { query: parameters, claims: { exp: 0 } };
    }
    if (asked === undefined ? 'urls' in body && !('url' in body) : judgeUrl(asked) === BAD) {
        misfit('url');
    }
    var issuer = await findIssuer(body);
    var key = await findTokenKey(issuer, token.head.object);
    var claims = claimsOf(body);
    var wrong = !('exp' in claims) || findMisfit(claims);
    var elsewhere = wrong ? { exp: 0 } : claims;
    if (key.a !== 'HS256') {
        return leaveToOrigin(issuer, token.text, elsewhere, parameters, now, client);
    }
    if (!verifies(key, token.signed, token.signature)) {
        unproven();
    }
    var plain = isPlainJson(token.head) && isPlainJson(token.body);
    if (plain && (wrong || ('url' in claims && 'urls' in body))) {
        unproven();
    }
    var scope = plain ? judgeScope(claims.url, body.urls, asked) : UNSURE;
    if (scope === UNSURE) {
        return leaveToOrigin(issuer, token.text, elsewhere, parameters, now, client);
    }
    checkTimesAndClient(claims, now, client);
    if (scope === BAD) {
        refuse('url_not_allowed');
    }
    if ('id' in claims) {
        await checkId(issuer, claims);
    }
    checkPolicy(issuer, key, claims, claims.iat, now);
    return {
        // The cache's key is the url, so it stands in the query even if only the token names it.
        query: asked === undefined ? Object.assign({ url: claims.url }, parameters) : parameters,
        claims: claims,
        partition: partition(issuer)
    };
}

// A compact JWS (RFC 7515 section 3.1), as text.
function readToken(text) {
    var parts = text.split('.');
    if (text.length > 8192 || /[^!-~]/.test(text) || parts.length !== 3 || !isWhole(parts[2], Buffer.from(parts[2], 'base64url'))) {
        malformedToken();
    }
    return {
        text: text,
        head: readPart(parts[0]),
        body: readPart(parts[1]),
        signed: `${parts[0]}.${parts[1]}`,
        signature: parts[2]
    };
}

function readPart(part) {
    var json = Buffer.from(part, 'base64url').toString();
    return isWhole(part, Buffer.from(json)) ? readObject(json) : malformedToken();
}

// base64url has one spelling, and UTF-8 too: what is written back must be what was there.
function isWhole(part, bytes) {
    return part !== '' && bytes.toString('base64url') === part;
}

// The one pair of issuer and audience that the token names; its entry, with its name in the store.
async function findIssuer(body) {
    var named = Array.isArray(body.aud) ? body.aud : [body.aud];
    var found = null;
    if (named.length <= 8 && named.concat([body.iss]).every(isText)) {
        var prefix = `i/${hash(body.iss)}/`;
        for (var at = 0; at < named.length; at++) {
            var name = prefix + hash(named[at]);
            var entry = named.indexOf(named[at]) === at ? await read(name) : null;
            if (entry !== null && found !== null) {
                unproven();
            }
            found = entry === null ? found : Object.assign({ name: name }, entry);
        }
    }
    return found || unproven();
}

// The key that the header names, with the one algorithm that the policy fixed. Published keys are the origin's to know.
// Header members are `alg`, `typ` and `kid`, so that `crit`, `jku`, `jwk` and the like all refuse (RFC 8725).
async function findTokenKey(issuer, head) {
    var kid = head.kid;
    var plain = Object.keys(head).every((name) => ['alg', 'kid', 'typ'].indexOf(name) >= 0) && (kid === undefined || isText(kid))
        && (head.typ === undefined || (isText(head.typ) && ['jwt', 'sluicegate+jwt'].indexOf(head.typ.toLowerCase()) >= 0));
    var key = null;
    if (plain && issuer.p) {
        key = { a: issuer.p };
    } else if (plain && (kid !== undefined || issuer.o)) {
        key = await read(`${issuer.name}/${kid === undefined ? issuer.o : hash(kid)}`);
    }
    return key !== null && head.alg === key.a ? key : unproven();
}

// Claims under the names of a link's parameters, times as text. What is of another form than it must be becomes '', which
// fits no rule.
function claimsOf(body) {
    var claims = {};
    for (var name in CLAIMS) {
        if (name in body) {
            var value = body[name];
            var good = /^(?:exp|nbf|iat)$/.test(name) ? typeof value === 'number' : isText(value) && !CONTROL.test(value);
            claims[CLAIMS[name]] = good ? `${value}` : '';
        }
    }
    return claims;
}

function isText(value) {
    return typeof value === 'string';
}

function malformedToken() {
    malformed('The token is malformed.');
}
