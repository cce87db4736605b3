#!/usr/bin/env node
// Makes of the functions in this folder what is deployed: joined, without comments, in at most 10 KB each.
//
// edge/build.mjs NAME    prints the built function: `viewer-request` or `viewer-response`
//
// `aws/inline` puts the result into template.yaml. The minifier comes from package-lock.json, once, into node_modules.

import { execFileSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const FOLDER = dirname(fileURLToPath(import.meta.url));
const FUNCTIONS = {
    'viewer-request': ['main', 'headers', 'query', 'values', 'address', 'url', 'json', 'link', 'token', 'scope', 'policy', 'store', 'refusal']
        .map((name) => `viewer-request/${name}.js`),
    'viewer-response': ['viewer-response.js']
};
// What a CloudFront function may have (quota "Maximum size of a function").
const MOST = 10240;

function fail(text) {
    console.error(`edge/build.mjs: ${text}`);
    process.exit(1);
}

async function minifier() {
    const wanted = JSON.parse(readFileSync(join(FOLDER, 'package.json'), 'utf8')).devDependencies.terser;
    const installed = join(FOLDER, 'node_modules/terser/package.json');
    if (!existsSync(installed) || JSON.parse(readFileSync(installed, 'utf8')).version !== wanted) {
        const options = { cwd: FOLDER, stdio: ['ignore', 'ignore', 'inherit'] };
        execFileSync('npm', ['ci', '--silent', '--no-audit', '--no-fund'], options);
    }
    return createRequire(import.meta.url)('terser').minify;
}

const name = process.argv[2];
const files = FUNCTIONS[name] || fail(`unknown function \`${name}\`; write one of ${Object.keys(FUNCTIONS).join(', ')}`);
const minify = await minifier();
const source = files.map((file) => readFileSync(join(FOLDER, file), 'utf8')).join('\n');
const built = await minify(source, {
    // No newer syntax than the source has: the runtime knows little of it.
    ecma: 2015,
    module: true,
    compress: { ecma: 5, passes: 2, top_retain: ['handler'] },
    // CloudFront calls it by this name.
    mangle: {
        reserved: ['handler'],
        // Names of our own objects; those of events, links and entries stay.
        properties: { regex: /^(?:claims|partition|passage|head|body_|signed|signature|refused|json|object)$/ }
    },
    format: { ascii_only: true, max_line_len: 400 }
});
const bytes = Buffer.byteLength(built.code);
if (bytes > MOST) {
    fail(`${name} has ${bytes} bytes; CloudFront takes ${MOST}`);
}
process.stdout.write(`${built.code}\n`);
