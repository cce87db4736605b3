// Types of the main entry.

/** Where the gateway is, and the key to sign with. */
export interface SignerOptions {
  /** The gateway's address, such as `https://downloads.example.com`. */
  base: string;
  /** The key's id. */
  kid: string;
  /** The secret's text, as `sluicegate keys new` prints it. It belongs on a server. */
  secret: string;
  /** The time in Unix seconds; the clock's if left out. For tests. */
  now?: () => number;
}

/** What a link shall say. Times are seconds. */
export interface MintOptions {
  /** The upstream file. */
  url: string;
  /** How long the link is good; one hour if neither this nor `exp` is given. */
  expiresIn?: number;
  /** When it ends, in Unix seconds or as a Date, in place of `expiresIn`. */
  exp?: number | Date;
  /** Moves the end up to the next multiple of so many seconds, so that links of the same span are equal. */
  alignTo?: number;
  /** When it begins to be good, in Unix seconds or as a Date. */
  notBefore?: number | Date;
  /** The name under which the file is saved. */
  filename?: string;
  /** `attachment` if left out. */
  disposition?: 'attachment' | 'inline';
  /** A link id, for revocation and audit. */
  id?: string;
  /** The client address or network that may use the link. */
  ip?: string;
}

/** A signed link and what was signed. As text, it is its link. */
export class Minted {
  private constructor();
  readonly link: string;
  readonly query: string;
  readonly stringToSign: string;
  readonly signature: string;
  /** When the link ends, in Unix seconds. */
  readonly exp: number;
  toString(): string;
}

/** Mints links for one gateway with one key. Make it once and keep it. */
export class Signer {
  constructor(options: SignerOptions);
  readonly base: string;
  readonly kid: string;
  /** Signs one link; throws a {@link MintError} for what a gateway would refuse. */
  mint(options: MintOptions): Promise<Minted>;
}

/** Why nothing was signed. */
export class MintError extends Error {
  constructor(parameter: string, message: string);
  /** The option at fault, as this library calls it, such as `expiresIn`. */
  readonly parameter: string;
}
