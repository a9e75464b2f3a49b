import { createHash } from 'node:crypto';

/**
 * The scripts that run inside Redis: each is one atomic step on the keys of one slot, so they work on a
 * single server and on a cluster alike. They use nothing newer than Redis 5 has (7.0 is what is tested).
 *
 * An address-of-record is a hash at `b:{AOR}`. Its fields: `b:KEY` a binding, `t:FLOW` the tombstone of a
 * flow (the time until which it counts), `order` the last order given. A binding's value is one octet of
 * version, a msgpack array that the scripts read (the head: expiry, order, update time, CSeq, Call-ID, flow,
 * route, coarse URI, loose parameters, instance, reg-id, epoch), and a msgpack value that only registrars read
 * (redis-value.ts).
 * A value of another version is left alone, and what it may live is not shortened.
 *
 * Time is the server's, in milliseconds; it comes first in each answer so that a registrar can tell how much
 * of a binding is left without comparing clocks. (Tests may give a time: an argument that is not empty.)
 * The TTL of the hash is the latest expiry in it.
 *
 * Who watches bindings gives `watch`, milliseconds, where else nothing stands: an answer then has all values
 * before and after the change besides, and what has expired stays that much longer, until a script that changes
 * the hash takes it out. So exactly one answer tells of it.
 */
export interface Script {
  text: string;
  sha: string;
}

const script = (text: string): Script => ({ text, sha: createHash('sha1').update(text).digest('hex') });

const CLOCK = `
local function clock(given)
  if given ~= '' then return tonumber(given) end
  local t = redis.call('TIME')
  return t[1] * 1000 + math.floor(t[2] / 1000)
end
`;

const HASH = `
local function parse(field, value)
  if string.byte(value) ~= 1 then return nil end
  local ok, at, h = pcall(cmsgpack.unpack_one, value, 1)
  if not ok or at < 0 or type(h) ~= 'table' then return nil end
  return { field = field, value = value, bodyAt = at + 1, expires = h[1], order = h[2], updated = h[3],
    cseq = h[4], callId = h[5], flow = h[6], route = h[7], coarse = h[8], loose = h[9],
    instance = h[10] or '', regId = h[11] or 0, epoch = h[12] or 0 }
end

local function compose(b, body)
  local head = { b.expires, b.order, b.updated, b.cseq, b.callId, b.flow, b.route, b.coarse, b.loose,
    b.instance, b.regId, b.epoch }
  head = '\\1' .. cmsgpack.pack(head)
  b.value, b.bodyAt = head .. body, #head + 1
  b.fresh = true
  return b
end

-- As withEpochs in location.ts: of a device that is registered now. 'before': the bindings that were there.
local function epochOf(before, instance, regId, callId, order)
  local device, latest
  for _, b in ipairs(before) do
    if b.instance == instance then
      device = b
      if regId == 0 or b.regId == regId then latest = b end -- they come by order
    end
  end
  if not device or (latest and latest.callId ~= callId) or device.epoch == 0 then return order end
  return device.epoch
end

local function setEpochs(after, epochs)
  for _, b in ipairs(after) do
    local epoch = epochs[b.instance]
    if epoch and b.epoch ~= epoch then
      b.epoch = epoch
      compose(b, string.sub(b.value, b.bodyAt))
    end
  end
end

local function read(key, now)
  local s = { before = {}, live = {}, dead = {}, tombs = {}, order = 0, unknown = false }
  local flat = redis.call('HGETALL', key)
  for i = 1, #flat, 2 do
    local field, value = flat[i], flat[i + 1]
    local kind = string.sub(field, 1, 2)
    if kind == 'b:' then
      local b = parse(field, value)
      s.before[#s.before + 1] = value
      if not b then s.unknown = true
      elseif b.expires > now then s.live[#s.live + 1] = b
      else s.dead[#s.dead + 1] = field end
    elseif kind == 't:' then
      if tonumber(value) > now then s.tombs[field] = tonumber(value)
      else s.dead[#s.dead + 1] = field end
    elseif field == 'order' then s.order = tonumber(value) end
  end
  table.sort(s.live, function(a, b) return a.order < b.order or (a.order == b.order and a.field < b.field) end)
  return s
end

-- Takes 'dead' out, writes what is fresh in 'live', and sets the TTL.
local function write(key, s, now, watch)
  local longer = tonumber(watch) or 0
  for _, field in ipairs(s.dead) do redis.call('HDEL', key, field) end
  local latest = 0
  for _, b in ipairs(s.live) do
    if b.fresh then redis.call('HSET', key, b.field, b.value) end
    latest = math.max(latest, b.expires + longer)
  end
  for field, till in pairs(s.tombs) do
    redis.call('HSET', key, field, string.format('%.0f', till))
    latest = math.max(latest, till)
  end
  if latest == 0 and not s.unknown then
    redis.call('DEL', key)
    return
  end
  redis.call('HSET', key, 'order', string.format('%.0f', s.order))
  local ttl = math.ceil(latest - now)
  if s.unknown then ttl = math.max(ttl, redis.call('PTTL', key)) end
  if ttl > 0 then redis.call('PEXPIRE', key, string.format('%.0f', ttl)) end
end

local function reply(status, now, live)
  local r = { status, now }
  for i, b in ipairs(live or {}) do r[i + 2] = b.value end
  return r
end

-- A number; with 'watch' also the time and all values before and after.
local function told(n, watch, now, s)
  if watch == '' then return n end
  local after = {}
  for i, b in ipairs(s.live) do after[i] = b.value end
  return { n, now, s.before, after }
end

-- 19.1.4: a parameter that both URIs have must have one value.
local function agree(a, b)
  local values = {}
  for param in string.gmatch(a, '[^;]+') do values[string.match(param, '^[^=]*')] = param end
  for param in string.gmatch(b, '[^;]+') do
    local other = values[string.match(param, '^[^=]*')]
    if other and other ~= param then return false end
  end
  return true
end

local function find(live, field, coarse, loose)
  for i, b in ipairs(live) do if b.field == field then return i end end
  if coarse == '' then return nil end
  for i, b in ipairs(live) do if b.coarse == coarse and agree(b.loose, loose) then return i end end
  return nil
end
`;

/**
 * One REGISTER, completely or not at all. KEYS: hash. ARGV: now, Call-ID, CSeq, clear, most bindings, flow,
 * time of its claim, what age of a claim is too old, watch; for each Contact: key, seconds, route, coarse,
 * loose, instance, reg-id, body. Answers status, now, values, and to who watches a list of those before. 'busy':
 * tombstones made since the claim may have been forgotten.
 */
export const UPDATE = script(`${CLOCK}${HASH}
local key, now = KEYS[1], clock(ARGV[1])
local callId, cseq, clear, most = ARGV[2], tonumber(ARGV[3]), ARGV[4] == '1', tonumber(ARGV[5])
local flow, claimed, patience = ARGV[6], tonumber(ARGV[7]), tonumber(ARGV[8])
local s = read(key, now)
if s.tombs['t:' .. flow] then return reply('flow-closed', now) end
if claimed and now - claimed > patience then return reply('busy', now) end

local order = math.max(s.order + 1, now)
local after, epochs = {}, {}
if clear then
  for _, b in ipairs(s.live) do
    if b.callId == callId and cseq <= b.cseq then return reply('stale', now) end
  end
else
  for i, b in ipairs(s.live) do after[i] = b end
  for at = 10, #ARGV, 8 do
    local field, expires, route, coarse, loose = 'b:' .. ARGV[at], tonumber(ARGV[at + 1]), ARGV[at + 2], ARGV[at + 3], ARGV[at + 4]
    local instance, regId = ARGV[at + 5], tonumber(ARGV[at + 6])
    local i = find(after, field, coarse, loose)
    local old = i and after[i]
    local again = false
    if old and not old.fresh and old.callId == callId and cseq <= old.cseq then
      again = cseq == old.cseq and expires > 0 and old.route == route
      if not again then return reply('stale', now) end
    end
    if not again and expires > 0 then
      local epoch = 0
      if instance ~= '' then
        epoch = epochs[instance]
        if epoch ~= order then epoch = epochOf(s.live, instance, regId, callId, order) end
        epochs[instance] = epoch
      end
      after[i or #after + 1] = compose({ field = field, expires = now + expires * 1000, order = order, updated = now,
        cseq = cseq, callId = callId, flow = flow, route = route, coarse = coarse, loose = loose,
        instance = instance, regId = regId, epoch = epoch }, ARGV[at + 7])
    elseif not again and old then table.remove(after, i) end
  end
end
if #after > most and #after > #s.live then return reply('full', now) end
setEpochs(after, epochs)

local kept, changed = {}, #s.dead > 0 or #after ~= #s.live
for _, b in ipairs(after) do
  kept[b.field] = true
  if b.fresh then changed = true end
end
for _, b in ipairs(s.live) do if not kept[b.field] then s.dead[#s.dead + 1] = b.field end end
if changed then
  s.live, s.order = after, order
  write(key, s, now, ARGV[9])
end
local r = reply('ok', now, after)
if changed and ARGV[9] ~= '' then r[#r + 1] = s.before end
return r
`);

/** KEYS: hash. ARGV: now. Answers 'ok', now, values. */
export const LOOKUP = script(`${CLOCK}${HASH}
local now = clock(ARGV[1])
return reply('ok', now, read(KEYS[1], now).live)
`);

/** KEYS: hash. ARGV: now, key of the binding, its order or nothing, watch. Answers how many went. */
export const REMOVE = script(`${CLOCK}${HASH}
local now = clock(ARGV[1])
local s = read(KEYS[1], now)
for i, b in ipairs(s.live) do
  if b.field == 'b:' .. ARGV[2] and (ARGV[3] == '' or b.order == tonumber(ARGV[3])) then
    s.dead[#s.dead + 1] = b.field
    table.remove(s.live, i)
    write(KEYS[1], s, now, ARGV[4])
    return told(1, ARGV[4], now, s)
  end
end
return 0
`);

/** The flow has closed, as one AOR learns it. KEYS: hash. ARGV: now, flow, life of its tombstone, watch. How many went. */
export const RETIRE = script(`${CLOCK}${HASH}
local now = clock(ARGV[1])
local s = read(KEYS[1], now)
local left, gone = {}, 0
for _, b in ipairs(s.live) do
  if b.flow == ARGV[2] then
    s.dead[#s.dead + 1] = b.field
    gone = gone + 1
  else left[#left + 1] = b end
end
s.live = left
s.tombs['t:' .. ARGV[2]] = now + tonumber(ARGV[3])
write(KEYS[1], s, now, ARGV[4])
return told(gone, ARGV[4], now, s)
`);

/** Takes out what has expired. KEYS: hash. ARGV: now, watch. Answers how much that was. */
export const EXPIRE = script(`${CLOCK}${HASH}
local now = clock(ARGV[1])
local s = read(KEYS[1], now)
local gone = #s.dead
if gone > 0 then write(KEYS[1], s, now, ARGV[2]) end
return told(gone, ARGV[2], now, s)
`);

/**
 * Bindings as another store had them; those that are here already stay, and with them the epoch of their
 * device: temporary GRUUs of the other store are good where the device was not here, if the key is the same.
 * KEYS: hash. ARGV: now; for each: key, milliseconds left, CSeq, Call-ID, flow, route, coarse, loose, instance,
 * reg-id, epoch, body. Answers how many were put.
 */
export const RESTORE = script(`${CLOCK}${HASH}
local now = clock(ARGV[1])
local s = read(KEYS[1], now)
local put, epochs = 0, {}
for _, b in ipairs(s.live) do if b.epoch ~= 0 then epochs[b.instance] = b.epoch end end
for at = 2, #ARGV, 12 do
  local field, left, flow = 'b:' .. ARGV[at], tonumber(ARGV[at + 1]), ARGV[at + 4]
  if left > 0 and not find(s.live, field, ARGV[at + 6], ARGV[at + 7]) and not s.tombs['t:' .. flow] then
    s.order = math.max(s.order + 1, now)
    local instance, epoch = ARGV[at + 8], 0
    if instance ~= '' then
      epoch = epochs[instance] or tonumber(ARGV[at + 10]) or s.order
      epochs[instance] = epoch
    end
    s.live[#s.live + 1] = compose({ field = field, expires = now + left, order = s.order, updated = now,
      cseq = tonumber(ARGV[at + 2]), callId = ARGV[at + 3], flow = flow, route = ARGV[at + 5],
      coarse = ARGV[at + 6], loose = ARGV[at + 7], instance = instance, regId = tonumber(ARGV[at + 9]),
      epoch = epoch }, ARGV[at + 11])
    put = put + 1
  end
end
if put > 0 then write(KEYS[1], s, now) end
return put
`);

/** KEYS: hash. ARGV: now. Unexpired bindings. */
export const COUNT = script(`${CLOCK}${HASH}
return #read(KEYS[1], clock(ARGV[1])).live
`);

/**
 * Before a binding over a flow is written: the flow's own record names the AOR, or the flow is closed.
 * KEYS: tombstone, set of AORs. ARGV: now, AOR, milliseconds to remember it. Answers now, or 0.
 */
export const CLAIM = script(`${CLOCK}
if redis.call('EXISTS', KEYS[1]) == 1 then return 0 end
redis.call('SADD', KEYS[2], ARGV[2])
if redis.call('PTTL', KEYS[2]) < tonumber(ARGV[3]) then redis.call('PEXPIRE', KEYS[2], ARGV[3]) end
return clock(ARGV[1])
`);

/** KEYS: tombstone, set of AORs. ARGV: life of the tombstone. Answers the AORs that the flow serves. */
export const CLOSE = script(`
redis.call('SET', KEYS[1], '1', 'PX', ARGV[1])
return redis.call('SMEMBERS', KEYS[2])
`);

/** KEYS: set of AORs. When all of them have learnt it. */
export const FORGET = script(`return redis.call('DEL', KEYS[1])`);

/** KEYS: a node's lease. ARGV: incarnation, milliseconds. 1: it is ours now; 0: another life of the node has it. */
export const HOLD = script(`
local holder = redis.call('GET', KEYS[1])
if holder and holder ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1
`);

/** KEYS: a node's lease. ARGV: incarnation. */
export const RELEASE = script(`
if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end
return 0
`);

/** KEYS: a node's lease. The incarnation that holds it, if any does. */
export const HOLDER = script(`return redis.call('GET', KEYS[1])`);

export const ALL_SCRIPTS = [
  UPDATE,
  LOOKUP,
  REMOVE,
  RETIRE,
  EXPIRE,
  RESTORE,
  COUNT,
  CLAIM,
  CLOSE,
  FORGET,
  HOLD,
  RELEASE,
  HOLDER,
];
