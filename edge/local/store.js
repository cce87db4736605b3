// Stands in for CloudFront's module `cloudfront`, which a function imports for its KeyValueStore. It is installed under
// that very name, so that the function runs unchanged.
//
// The store is a folder that `store.py` fills: a file per key, named by the key in base64url. It is read at every call,
// so a changed entry counts from the next request on.

import fs from 'fs';
import settings from 'settings.js';

function file(key) {
    return settings.store + '/' + Buffer.from(String(key)).toString('base64url');
}

function converted(bytes, options) {
    var format = options && options.format ? options.format : 'string';
    if (format === 'json') {
        return JSON.parse(bytes.toString());
    }
    if (format === 'bytes') {
        return bytes;
    }
    if (format !== 'string') {
        throw new Error('there is no format `' + format + '`');
    }
    return bytes.toString();
}

// A missing key rejects, as it does there (CloudFront Functions, helper methods for key value stores).
async function get(key, options) {
    var bytes;
    try {
        bytes = fs.readFileSync(file(key));
    } catch (error) {
        throw new Error('KeyNotFound: `' + key + '`');
    }
    return converted(bytes, options);
}

async function exists(key) {
    try {
        fs.accessSync(file(key), fs.constants.R_OK);
        return true;
    } catch (error) {
        return false;
    }
}

// Entries on their way in begin with a dot; see store.py.
function names() {
    return fs.readdirSync(settings.store).filter(function (name) {
        return name[0] !== '.';
    });
}

async function count() {
    return names().length;
}

async function meta() {
    return { creationDateTime: '', lastUpdatedDateTime: '', keyCount: names().length };
}

function kvs() {
    if (!settings.store) {
        throw new Error('no KeyValueStore is associated with the function');
    }
    return { get: get, exists: exists, count: count, meta: meta };
}

export default { kvs };
