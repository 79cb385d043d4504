-- What the store does for several rendezvous, each request in one step. The same as `matchmaker::cluster::Store` in memory,
-- which says why; a test plays both against each other.
--
-- All keys begin with KEYS[1], which holds a hash tag: they are on one node of a cluster.
-- LEASE, RESUME, BOUND, KEPT (ms), BOUND_MAX, BOUND_OF_SOURCE_MAX, BOUND_OF_SITE_MAX, REPLACING_MAX, TOKENS_MAX, ROOMS_MAX and
-- BURIED_AT_ONCE come before this.
--
-- A room is written as "r" and its name, since the default room has none. Before the name of a room or a worker stands that of its
-- tenant, with a control character before and behind it, where the tenant has one.
--
-- live                instance -> until when it has its lease (sorted)
-- dead                instance -> since when it has none, and something of it is left (sorted)
-- rooms               room -> "instance epoch"
-- owned:INSTANCE      its rooms
-- at:INSTANCE         connection -> "source|site|p|worker", p: 1 as long as it has no id
-- worker:ID           seat, source, site, ip, key, made (from its key), order, room, rooms, resume, seen, version
-- workers             the ids that are registered, in order
-- left:ID             rooms, resume: what a connection has left that is gone
-- bound               id -> "key|source|site|until"
-- bound:all, bound:source:S    id -> until (sorted); bound:sites    site -> how many (sorted)
-- bound:sources:SITE  source of this site -> how many (sorted)
-- sources, sites, tenants    how many connections each has

local base, op = KEYS[1], ARGV[1]
local time = redis.call('TIME')
local micros = time[1] * 1000000 + time[2]
local now = math.floor(micros / 1000)

local function key(name, of) return base .. ':' .. name .. (of and ':' .. of or '') end
local function call(...) return redis.call(...) end

local function count(name, of, by)
  if of ~= '' and call('HINCRBY', key(name), of, by) <= 0 then call('HDEL', key(name), of) end
end

local function tenant_of(worker) return worker:match('^\31(.-)\31') or '' end

-- A seat is "generation.process/connection".
local function place(seat)
  local instance, connection = seat:match('^(.-)/(.*)$')
  return key('at', instance), connection
end

local function known(seat)
  local at, connection = place(seat)
  local line = call('HGET', at, connection)
  if not line then return nil end
  local source, site, pending, worker = line:match('^(.-)|(.-)|(%d)|(.*)$')
  return { source = source, site = site, pending = pending == '1', worker = worker }
end

local function seated(seat, worker, source, site, pending)
  local at, connection = place(seat)
  call('HSET', at, connection, source .. '|' .. site .. '|' .. (pending and '1' or '0') .. '|' .. worker)
end

local function arrive(seat, worker, source, site)
  if known(seat) then return end
  seated(seat, worker, source, site, true)
  count('sources', source, 1)
  count('sites', site, 1)
  count('tenants', tenant_of(worker), 1)
  call('INCR', key('pending'))
end

-- A connection has an id.
local function taken(seat, worker, source, site)
  arrive(seat, worker, source, site)
  if known(seat).pending then
    call('DECR', key('pending'))
    seated(seat, worker, source, site, false)
  end
end

-- A connection has no place any more; whether it had no id.
local function leave(seat)
  local it = known(seat)
  if not it then return false end
  local at, connection = place(seat)
  call('HDEL', at, connection)
  count('sources', it.source, -1)
  count('sites', it.site, -1)
  count('tenants', tenant_of(it.worker), -1)
  if it.pending then call('DECR', key('pending')) end
  return it.pending
end

local function current(worker)
  local flat = call('HGETALL', key('worker', worker))
  if #flat == 0 then return nil end
  local entry = {}
  for i = 1, #flat, 2 do entry[flat[i]] = flat[i + 1] end
  return entry
end

local function lines(text)
  local all = {}
  for line in text:gmatch('[^\n]+') do all[#all + 1] = line end
  return all
end

local function less(name, of, member)
  if tonumber(call('ZINCRBY', key(name, of), -1, member)) <= 0 then call('ZREM', key(name, of), member) end
end

local function unbind(worker)
  local line = call('HGET', key('bound'), worker)
  if not line then return end
  local source, site = line:match('^.-|(.-)|(.-)|')
  call('HDEL', key('bound'), worker)
  call('ZREM', key('bound:all'), worker)
  call('ZREM', key('bound:source', source), worker)
  less('bound:sites', nil, site)
  less('bound:sources', site, source)
end

local function bound(worker)
  local line = call('HGET', key('bound'), worker)
  if not line then return nil end
  local owner, till = line:match('^(.-)|.*|(%d+)$')
  if tonumber(till) > now then return owner end
  unbind(worker)
  return nil
end

-- The key of an id, which nobody takes without its proof.
local function bound_to(worker, entry)
  if entry and entry.key ~= '' then return entry.key end
  return bound(worker)
end

local function give_way(source)
  local first = call('ZRANGE', key('bound:source', source), 0, 0)[1]
  if first then unbind(first) end
end

local function most(name, of) return call('ZREVRANGE', key(name, of), 0, 0)[1] end

local function keep(worker, owner, source, site)
  unbind(worker)
  -- A few of those that are over, each time.
  for _, old in ipairs(call('ZRANGEBYSCORE', key('bound:all'), '-inf', now, 'LIMIT', 0, 8)) do unbind(old) end
  if source ~= '' and call('ZCARD', key('bound:source', source)) >= BOUND_OF_SOURCE_MAX then
    give_way(source)
  elseif site ~= '' and tonumber(call('ZSCORE', key('bound:sites'), site) or 0) >= BOUND_OF_SITE_MAX then
    give_way(most('bound:sources', site))
  elseif call('ZCARD', key('bound:all')) >= BOUND_MAX then
    give_way(most('bound:sources', most('bound:sites')))
  end
  local till = now + BOUND
  call('HSET', key('bound'), worker, owner .. '|' .. source .. '|' .. site .. '|' .. string.format('%d', till))
  call('ZADD', key('bound:all'), till, worker)
  call('ZADD', key('bound:source', source), till, worker)
  call('ZINCRBY', key('bound:sites'), 1, site)
  call('ZINCRBY', key('bound:sources', site), 1, source)
end

local function has_left(worker, entry)
  local name = key('left', worker)
  local before = call('HMGET', name, 'rooms', 'resume')
  local all, rooms, seen = lines((before[1] or '') .. '\n' .. entry.rooms), {}, {}
  for i = #all, 1, -1 do
    if not seen[all[i]] and #rooms < ROOMS_MAX then table.insert(rooms, 1, all[i]) end
    seen[all[i]] = true
  end
  local new, tokens = lines(entry.resume), {}
  seen = {}
  for _, token in ipairs(new) do seen['=' .. token] = true end
  for _, token in ipairs(lines(before[2] or '')) do
    if not seen['=' .. token] then tokens[#tokens + 1] = token end
  end
  for _, token in ipairs(new) do tokens[#tokens + 1] = token end
  while #tokens > TOKENS_MAX do table.remove(tokens, 1) end
  call('HSET', name, 'rooms', table.concat(rooms, '\n'), 'resume', table.concat(tokens, '\n'))
  call('PEXPIRE', name, RESUME)
end

local function release(worker, seat, outlives, has_sessions)
  if leave(seat) then return end
  local entry = current(worker)
  if not entry or entry.seat ~= seat then return end
  call('DEL', key('worker', worker))
  call('ZREM', key('workers'), worker)
  if has_sessions then has_left(worker, entry) end
  if outlives and entry.key ~= '' and entry.made ~= '1' then keep(worker, entry.key, entry.source, entry.site) end
end

local function register(worker, seat, who, owner, order)
  call('DEL', key('worker', worker))
  call('HSET', key('worker', worker), 'seat', seat, 'source', who.source, 'site', who.site, 'ip', who.ip,
    'key', owner, 'made', who.made, 'order', order, 'room', '', 'rooms', '', 'resume', '', 'seen', '', 'version', 0)
  call('ZADD', key('workers'), 0, worker)
end

-- By the clock: higher than any that was forgotten.
local function next_order()
  local order = math.max(tonumber(call('GET', key('order')) or 0) + 1, micros)
  call('SET', key('order'), string.format('%d', order))
  return string.format('%d', order)
end

-- Whether there is room; else why not.
local function admits(worker, who, all_max, own_max, site_max, tenant_max)
  local entry = current(worker)
  local function has_room(held, max, old)
    return held < max or (old and (old.key == '' or held < max + REPLACING_MAX))
  end
  local held = call('ZCARD', key('workers')) + tonumber(call('GET', key('pending')) or 0)
  if not has_room(held, all_max, entry) then return 'full' end
  local of_tenant = tonumber(call('HGET', key('tenants'), tenant_of(worker)) or 0)
  if tenant_max >= 0 and not has_room(of_tenant, tenant_max, entry) then return 'tenant' end
  if own_max < 0 or who.source == '' then return nil end
  local of_source = tonumber(call('HGET', key('sources'), who.source) or 0)
  local of_site = tonumber(call('HGET', key('sites'), who.site) or 0)
  if not has_room(of_source, own_max, entry and entry.source == who.source and entry) then return 'source' end
  if not has_room(of_site, site_max, entry and entry.site == who.site and entry) then return 'site' end
  return nil
end

local function parts(instance)
  local generation, process = instance:match('^(%d+)%.(%d+)$')
  return tonumber(generation), process
end

-- An instance is gone, and all connections to it: so many of these, since nobody else is served meanwhile. Its rooms stay known as
-- somebody's for a while: the next owner is to learn them from others.
local function bury(instance, since)
  local at, owned = key('at', instance), key('owned', instance)
  local held = call('HSCAN', at, 0, 'COUNT', BURIED_AT_ONCE)[2]
  for i = 1, #held, 2 do
    release(held[i + 1]:match('^.-|.-|%d|(.*)$'), instance .. '/' .. held[i], true, true)
    call('HDEL', at, held[i])
  end
  if since + KEPT < now then
    for _, room in ipairs(call('SPOP', owned, BURIED_AT_ONCE)) do
      local line = call('HGET', key('rooms'), room)
      if line and line:match('^%S+') == instance then call('HDEL', key('rooms'), room) end
    end
  end
  if call('EXISTS', at, owned) == 0 then call('ZREM', key('dead'), instance) end
end

local function gone(instance)
  call('ZREM', key('live'), instance)
  call('ZADD', key('dead'), now, instance)
  bury(instance, now)
end

local function is_live(seat)
  local till = call('ZSCORE', key('live'), (seat:match('^(.-)/')))
  return till and tonumber(till) > now
end

local ops = {}

function ops.renew(from, again)
  local generation, process = parts(from)
  local all = call('ZRANGE', key('live'), 0, -1, 'WITHSCORES')
  local is_old, over = false, {}
  for i = 1, #all, 2 do
    -- The clock was set back.
    if tonumber(all[i + 1]) > now + LEASE then call('ZADD', key('live'), now + LEASE, all[i]) end
    local other_generation, other_process = parts(all[i])
    local is_same = other_process == process
    if is_same and other_generation > generation then is_old = true end
    if tonumber(all[i + 1]) <= now and all[i] ~= from or is_same and other_generation < generation then
      over[#over + 1] = all[i]
    end
  end
  local till = call('ZSCORE', key('live'), from)
  local is_over = again == '1' and not (till and tonumber(till) > now)
  if is_over and till then over[#over + 1] = from end
  if not is_old and not is_over then
    call('ZADD', key('live'), now + LEASE, from)
    call('ZREM', key('dead'), from)
  end
  for _, instance in ipairs(over) do gone(instance) end
  for _, instance in ipairs(call('ZRANGE', key('dead'), 0, 3)) do
    bury(instance, tonumber(call('ZSCORE', key('dead'), instance)))
  end
  local run = call('INFO', 'server'):match('run_id:(%x+)')
  return { run, call('ZRANGE', key('live'), 0, -1) }
end

function ops.resign(from) gone(from) end

function ops.own(from, room, known_epoch)
  local line = call('HGET', key('rooms'), room)
  local owner, epoch = from, 0
  if line then
    local held_by, of = line:match('^(%S+) (%d+)$')
    local till = call('ZSCORE', key('live'), held_by)
    local _, process = parts(from)
    local _, other = parts(held_by)
    if other ~= process and till and tonumber(till) > now then owner, epoch = held_by, tonumber(of) end
  end
  if owner == from or epoch < tonumber(known_epoch) then
    epoch = math.max(tonumber(call('GET', key('epoch')) or 0), tonumber(known_epoch)) + 1
    call('SET', key('epoch'), string.format('%d', epoch))
  end
  epoch = string.format('%d', epoch)
  call('HSET', key('rooms'), room, owner .. ' ' .. epoch)
  call('SADD', key('owned', owner), room)
  return { owner, epoch, line and 1 or 0 }
end

function ops.disown(from, room, epoch)
  if call('HGET', key('rooms'), room) == from .. ' ' .. epoch then
    call('HDEL', key('rooms'), room)
    call('SREM', key('owned', from), room)
  end
end

-- What comes late for an instance that is gone would stay for ever: it is asked again.
local NOT_LIVE = 'not live'

local function who_of(source, site, ip, made) return { source = source, site = site, ip = ip, made = made } end

local function numbers(...)
  local all = { ... }
  for i = 1, #all do all[i] = tonumber(all[i]) end
  return unpack(all)
end

function ops.admits(worker, source, site, ...)
  return admits(worker, who_of(source, site), numbers(...)) or ''
end

function ops.arrive(seat, worker, source, site, ip, made, ...)
  if not is_live(seat) then return NOT_LIVE end
  local who = who_of(source, site, ip, made)
  local refused = admits(worker, who, numbers(...))
  if refused then return { refused, 0 } end
  arrive(seat, worker, source, site)
  return { '', (made == '1' or bound_to(worker, current(worker))) and 1 or 0 }
end

function ops.claim(seat, worker, source, site, ip, made, owner)
  if not is_live(seat) then return NOT_LIVE end
  local entry, it = current(worker), known(seat)
  local is_current = entry and entry.seat == seat
  if not is_current and it and not it.pending then return { 'replaced' } end
  local holder = bound_to(worker, entry)
  if (owner ~= '' or not is_current) and holder and holder ~= owner then return { 'other_key' } end
  local replaced, order = '', is_current and entry.order
  if not is_current then
    taken(seat, worker, source, site)
    order = next_order()
    if entry then
      replaced = entry.seat
      has_left(worker, entry)
    end
    register(worker, seat, who_of(source, site, ip, made), '', order)
  end
  if owner ~= '' then
    call('HSET', key('worker', worker), 'key', owner)
    unbind(worker)
  end
  local left = call('HMGET', key('left', worker), 'rooms', 'resume')
  return { 'ok', replaced, left[1] or '', left[2] or '', order }
end

function ops.reclaim(seat, worker, source, site, ip, made, owner, before)
  if not is_live(seat) then return NOT_LIVE end
  local entry = current(worker)
  local order = next_order()
  if entry and (entry.seat == before or entry.seat == seat) then
    local name = key('worker', worker)
    call('HSET', name, 'seat', seat, 'order', order)
    if entry.key == '' then call('HSET', name, 'key', owner) end
  elseif entry then
    return { 'replaced' }
  else
    local holder = bound(worker)
    if holder and holder ~= owner then return { 'replaced' } end
    register(worker, seat, who_of(source, site, ip, made), owner, order)
    unbind(worker)
  end
  leave(before)
  taken(seat, worker, source, site)
  return { 'ok', '', '', '', order }
end

function ops.find(worker)
  return call('HMGET', key('worker', worker), 'seat', 'room')
end

function ops.is(seat, worker, room, rooms, resume, seen, version)
  local name = key('worker', worker)
  local known = call('HMGET', name, 'seat', 'version')
  -- What was said before may come later.
  if known[1] == seat and tonumber(known[2] or 0) <= tonumber(version) then
    call('HSET', name, 'room', room, 'rooms', rooms, 'resume', resume, 'seen', seen, 'version', version)
  end
end

function ops.release(seat, worker, outlives, has_sessions)
  release(worker, seat, outlives == '1', has_sessions == '1')
end

-- Those of a tenant stand together, and those of none behind all others: no id begins with a character before the space.
function ops.list(after, limit, within)
  local first, last = '-', '+'
  if within == '' then
    first = '[ '
  elseif within ~= '*' then
    first, last = '[\31' .. within .. '\31', '(\31' .. within .. '\32'
  end
  local all = call('ZLEXCOUNT', key('workers'), first, last)
  if after ~= '' and (within == '*' or tenant_of(after) == within) then first = '(' .. after end
  local ids = call('ZRANGEBYLEX', key('workers'), first, last, 'LIMIT', 0, tonumber(limit) + 1)
  local more = #ids > tonumber(limit)
  if more then ids[#ids] = nil end
  local listed = {}
  for i, id in ipairs(ids) do
    local it = call('HMGET', key('worker', id), 'ip', 'seen')
    listed[i] = { id, it[1] or '', it[2] or '' }
  end
  return { listed, more and 1 or 0, all }
end

return ops[op](unpack(ARGV, 2)) or ''
