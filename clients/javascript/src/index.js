// The package's main entry: what mints links.

export { MintError } from './rules.js';
export { Minted, Signer } from './signer.js';
