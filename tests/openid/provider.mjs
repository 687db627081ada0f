// An OpenID provider: callers log in as clients (RFC 6749, section 4.4) and get JWT access tokens for standpipe (RFC 9068);
// standpipe exchanges those (RFC 8693) or asks with its own client credentials.
// node provider.mjs PORT LIFETIME FOLDER: the port (0: a free one), seconds that providers' tokens live, and where its keys
// stay over a restart; CLIENT_SECRET is standpipe's. Standard output says where it listens, what it granted and refused.
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { join } from 'node:path';
import { argv, env, stdout } from 'node:process';
import { calculateJwkThumbprint, createLocalJWKSet, exportJWK, generateKeyPair, jwtVerify } from 'jose';
import { Provider, errors } from 'oidc-provider';

const [port, lifetime, folder] = argv.slice(2);
const EXCHANGE = 'urn:ietf:params:oauth:grant-type:token-exchange';
const ACCESS_TOKEN = 'urn:ietf:params:oauth:token-type:access_token';
const JWT = 'urn:ietf:params:oauth:token-type:jwt';
// Whom tokens are for, by the URI that names them (RFC 8707), and what they are signed with.
const SERVERS = {
  'urn:standpipe': { audience: 'standpipe', accessTokenTTL: 600, alg: 'RS256' },
  'urn:alpha': { audience: 'https://alpha.example', accessTokenTTL: Number(lifetime), alg: 'ES256' },
};
const CALLERS = {
  ann: { org: 'blue', groups: ['ops', 'dev'] },
  bob: { org: 'red', groups: [] },
  // Is let in and gets nothing exchanged.
  mallory: { org: 'red', groups: ['barred'] },
};

const say = (...words) => stdout.write(`${words.join(' ')}\n`);

async function keys() {
  const file = join(folder, 'keys.json');
  if (!existsSync(file)) {
    const made = [];
    for (const alg of ['RS256', 'ES256']) {
      const { privateKey } = await generateKeyPair(alg, { extractable: true });
      const key = await exportJWK(privateKey);
      made.push({ ...key, alg, use: 'sig', kid: await calculateJwkThumbprint(key) });
    }
    writeFileSync(file, JSON.stringify({ keys: made }));
  }
  return JSON.parse(readFileSync(file, 'utf8'));
}

function resourceServer(uri) {
  const known = SERVERS[uri];
  if (!known) throw new errors.InvalidTarget();
  const { alg, ...info } = known;
  return { ...info, scope: '', accessTokenFormat: 'jwt', jwt: { sign: { alg } } };
}

const server = createServer();
await new Promise((listening) => { server.listen(Number(port), '127.0.0.1', listening); });
const issuer = `http://127.0.0.1:${server.address().port}`;
const jwks = await keys();

const provider = new Provider(issuer, {
  jwks,
  clients: [
    ...Object.keys(CALLERS).map((name) => ({
      client_id: name,
      client_secret: `${name}-passw0rd`,
      grant_types: ['client_credentials'],
      redirect_uris: [],
      response_types: [],
    })),
    {
      client_id: 'standpipe',
      client_secret: env.CLIENT_SECRET,
      grant_types: [EXCHANGE, 'client_credentials'],
      redirect_uris: [],
      response_types: [],
    },
  ],
  // An exchanged token says who acts for its subject (RFC 8693, section 4.1).
  extraTokenClaims: (_ctx, token) => (token.accountId ? { act: { sub: token.clientId } } : CALLERS[token.clientId]),
  features: {
    clientCredentials: { enabled: true },
    devInteractions: { enabled: false },
    resourceIndicators: { enabled: true, getResourceServerInfo: (_ctx, uri) => resourceServer(uri) },
  },
});

// The subject of a token that this provider gave out for standpipe and that has not ended.
async function subject(token) {
  const keySet = createLocalJWKSet({ keys: jwks.keys.map(({ d, p, q, dp, dq, qi, ...key }) => key) });
  try {
    const { payload } = await jwtVerify(token, keySet, { issuer, audience: 'standpipe', typ: 'at+jwt' });
    return payload.sub;
  } catch {
    throw new errors.InvalidGrant('the subject token is no good');
  }
}

const PARAMETERS = ['subject_token', 'subject_token_type', 'requested_token_type', 'audience', 'resource', 'scope'];
provider.registerGrantType(EXCHANGE, async (ctx) => {
  const { client, params } = ctx.oidc;
  if (!params.subject_token) throw new errors.InvalidRequest('subject_token is missing');
  if (![ACCESS_TOKEN, JWT].includes(params.subject_token_type)) {
    throw new errors.InvalidRequest('subject_token_type is missing or unknown');
  }
  const accountId = await subject(params.subject_token);
  if (CALLERS[accountId]?.groups.includes('barred')) throw new errors.AccessDenied('not for this subject');
  const uri = params.resource ?? params.audience;
  const token = new provider.AccessToken({ accountId, client, gty: 'token_exchange' });
  token.resourceServer = new provider.ResourceServer(uri, resourceServer(uri));
  const value = await token.save();
  ctx.oidc.subject = accountId;
  ctx.body = {
    access_token: value,
    issued_token_type: ACCESS_TOKEN,
    token_type: 'Bearer',
    expires_in: token.expiration,
  };
}, PARAMETERS);

const grant = (ctx) => ctx.oidc?.params?.grant_type?.split(':').pop();
provider.on('grant.success', (ctx) => say('granted', grant(ctx), ctx.oidc.subject ?? ctx.oidc.client.clientId));
provider.on('grant.error', (ctx, error) => say('refused', grant(ctx), error.message));
provider.on('server_error', (_ctx, error) => say('failed', error.stack));

server.on('request', provider.callback());
say('listens', issuer);
