// What holds for links and tokens alike, once they are proven: times, client address, revocation, lifetime. In the gate's
// order; src/gate/grant.rs, src/gate/permit.rs. What the tenant's rules say of the url is the origin's part: nothing is
// cached under the epoch of a policy that did not allow it.

// `exp` is the first moment too late, `nbf` the first moment early enough. No leeway.
function checkTimesAndClient(claims, now, client) {
    if (now >= claims.exp) {
        refuse('link_expired');
    }
    if (now < (claims.nbf || 0)) {
        refuse('link_not_yet_valid');
    }
    if ('ip' in claims && !isWithin(readRange(claims.ip), client)) {
        refuse('client_not_allowed');
    }
}

// `entry` says what holds for all credentials of its kind, `key` whether it is revoked itself.
function checkPolicy(entry, key, claims, issued, now) {
    if (key.r || ('b' in entry && (issued === undefined || issued < entry.b))) {
        refuse('link_revoked');
    }
    if ('l' in entry && claims.exp - now > entry.l) {
        refuse('lifetime_too_long');
    }
}

// What cannot be judged here: nothing is said of it, the origin decides. Whoever brings the same credential while it lives,
// from an address that it names, may find in the cache what the origin decided; nobody else finds anything.
function leaveToOrigin(entry, credential, claims, parameters, now, client) {
    var live = now < claims.exp && (!('ip' in claims) || isWithin(readRange(claims.ip), client));
    return { query: parameters, claims: claims, partition: live ? `${partition(entry)}.${hash(credential)}` : '' };
}

async function checkId(entry, claims) {
    if (await store.exists(`r/${entry.t}/${claims.id}`)) {
        refuse('link_revoked');
    }
}

function partition(entry) {
    return `${entry.t}.${entry.e}`;
}

// 132 bits of SHA-256.
function hash(text) {
    return crypto.createHash('sha256').update(text).digest('base64url').substring(0, 22);
}
