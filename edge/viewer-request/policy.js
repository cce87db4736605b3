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
async function checkPolicy(entry, key, claims, issued, now) {
    var listed = 'id' in claims && await store.exists(`r/${entry.t}/${claims.id}`);
    if (key.r || listed || (entry.b && (issued === undefined || issued < entry.b))) {
        refuse('link_revoked');
    }
    if (entry.l && claims.exp - now > entry.l) {
        refuse('lifetime_too_long');
    }
}

// `tenant.epoch`, and for a credential that only the origin can judge the credential's hash.
function partition(entry, own) {
    return `${entry.t}.${entry.e}${own === undefined ? '' : `.${hash(own)}`}`;
}

// 132 bits of SHA-256.
function hash(text) {
    return crypto.createHash('sha256').update(text).digest('base64url').substring(0, 22);
}
