"""What the journal does in Redis, each change one Lua script, so that it is atomic.

All keys share one hash tag, hence one slot. Below `{prefix}:` there are

    seq                 STRING  arrivals so far
    turns               STREAM  one entry an arrival, `<seq>-0`, for whoever follows along
    turn:<turn>         HASH    seq, key, conversation, time, flags, level, reviewed, body, content
    flagged, unflagged  ZSET    turn by seq
    queue, pending      ZSET    flagged turns not reviewed, by rank and by time
    reviewed            SET     turns
    times, grace        ZSET    turn by its time, and by when its content goes
    conversation:<name> HASH    turn -> key
    feedback:<turn>     HASH    feedback id -> envelope; waiting:<turn> while the turn is unknown
    waiting             ZSET    turn by the time of the newest feedback that waits for it
    waiting_keys        HASH    key -> how much of its feedback waits
    ratings             HASH    rating id -> rating; item:<item> and rated:<turn> are SETs of ids
    claims, claimants   ZSET    item by the end of its lease; HASH item -> rater
    tombstones          ZSET    "[key, conversation]" by time; stone:<that> is a SET of turns
    erased              SET     turns
    outcomes            HASH    outcome -> count
    quarantine          HASH    turn -> what could not be read
    bytes               STRING  length of all bodies and contents

An envelope is feedback with what joining it needs: {id, key, time, flag, level, body}.
"""

from typing import Final

_COMMON: Final = """
local prefix = KEYS[1]
local function key(...) return prefix .. ':' .. table.concat({...}, ':') end
local call = redis.call

-- Keep the indexes true to a turn's flags, level and review.
local function place(turn)
  local seq, flags, level, reviewed, time =
    unpack(call('HMGET', key('turn', turn), 'seq', 'flags', 'level', 'reviewed', 'time'))
  if flags == '' then
    call('ZADD', key('unflagged'), seq, turn)
  else
    call('ZREM', key('unflagged'), turn)
    call('ZADD', key('flagged'), seq, turn)
  end
  if flags ~= '' and reviewed == '0' then
    local rank = string.format('%.0f', tonumber(level) * 4398046511104 + tonumber(seq))
    call('ZADD', key('queue'), rank, turn)
    call('ZADD', key('pending'), time, turn)
  else
    call('ZREM', key('queue'), turn)
    call('ZREM', key('pending'), turn)
  end
  call(reviewed == '1' and 'SADD' or 'SREM', key('reviewed'), turn)
end

-- Of two envelopes with one id the later counts.
local function put(where, envelope, said)
  local old = call('HGET', where, said.id)
  if not old or cjson.decode(old).time < said.time then call('HSET', where, said.id, envelope) end
  return not old
end

local function join(turn, envelope)
  local said = cjson.decode(envelope)
  local flags, level, reviewed =
    unpack(call('HMGET', key('turn', turn), 'flags', 'level', 'reviewed'))
  local names = {}
  for name in flags:gmatch('%S+') do names[#names + 1] = name end
  if said.flag ~= '' and not (' ' .. flags .. ' '):find(' ' .. said.flag .. ' ', 1, true) then
    names[#names + 1] = said.flag
    table.sort(names)
    reviewed = '0'
  end
  call('HSET', key('turn', turn), 'flags', table.concat(names, ' '), 'reviewed', reviewed,
    'level', math.min(tonumber(level), said.level))
  call('ZREM', key('grace'), turn)
  put(key('feedback', turn), envelope, said)
  place(turn)
end

-- Remove the feedback that waits for a turn, and hand it over.
local function take_waiting(turn)
  local envelopes = call('HVALS', key('waiting', turn))
  for _, envelope in ipairs(envelopes) do
    local said = cjson.decode(envelope)
    if call('HINCRBY', key('waiting_keys'), said.key, -1) <= 0 then
      call('HDEL', key('waiting_keys'), said.key)
    end
    call('HINCRBY', key('waiting_keys'), '', -1)
  end
  call('DEL', key('waiting', turn))
  call('ZREM', key('waiting'), turn)
  return envelopes
end

local function drop_content(turn)
  local size = call('HSTRLEN', key('turn', turn), 'content')
  call('HDEL', key('turn', turn), 'content')
  call('DECRBY', key('bytes'), size)
  call('ZREM', key('grace'), turn)
end

-- Remove a turn and all that belongs to it.
local function forget(turn)
  local where = key('turn', turn)
  local seq, conversation = unpack(call('HMGET', where, 'seq', 'conversation'))
  if not seq then return 0 end
  drop_content(turn)
  call('DECRBY', key('bytes'), call('HSTRLEN', where, 'body'))
  call('XDEL', key('turns'), seq .. '-0')
  for _, index in ipairs({'flagged', 'unflagged', 'queue', 'pending', 'times'}) do
    call('ZREM', key(index), turn)
  end
  call('SREM', key('reviewed'), turn)
  call('HDEL', key('conversation', conversation), turn)
  for _, rating in ipairs(call('SMEMBERS', key('rated', turn))) do
    local item = cjson.decode(call('HGET', key('ratings'), rating)).item_id
    call('HDEL', key('ratings'), rating)
    call('SREM', key('item', item), rating)
  end
  call('DEL', where, key('feedback', turn), key('rated', turn))
  return 1
end

local function known(turn) return call('HEXISTS', key('turn', turn), 'seq') == 1 end
"""

RECORD: Final = """
local turn, owner, conversation, time, flags, level, keep_until, body, content, outcome =
  unpack(ARGV)
if known(turn) or call('SISMEMBER', key('erased'), turn) == 1 then return 0 end
local stone = cjson.encode({owner, conversation})
if call('ZSCORE', key('tombstones'), stone) then
  call('HINCRBY', key('outcomes'), outcome, 1)
  call('SADD', key('erased'), turn)
  call('SADD', key('stone', stone), turn)
  take_waiting(turn)
  return 0
end
local function store()
  local seq = call('INCR', key('seq'))
  call('XADD', key('turns'), seq .. '-0', 'turn', turn)
  call('HSET', key('turn', turn), 'seq', seq, 'key', owner, 'conversation', conversation,
    'time', time, 'flags', flags, 'level', level, 'reviewed', '0', 'body', body)
  if content ~= '' then call('HSET', key('turn', turn), 'content', content) end
  call('INCRBY', key('bytes'), #body + #content)
  if keep_until ~= '' then call('ZADD', key('grace'), keep_until, turn) end
  call('ZADD', key('times'), time, turn)
  call('HSET', key('conversation', conversation), turn, owner)
  place(turn)
  for _, envelope in ipairs(call('HVALS', key('waiting', turn))) do
    if cjson.decode(envelope).key == owner then join(turn, envelope) end
  end
  take_waiting(turn)
  call('HINCRBY', key('outcomes'), outcome, 1)
end
local stored, failure = pcall(store)
if stored then return 1 end
-- What Redis did of a script that fails stays done, and half a turn would pass for a known one.
call = redis.pcall
forget(turn)
return redis.error_reply(failure)
"""

FEEDBACK: Final = """
local turn, envelope, of_key, of_all = unpack(ARGV)
local said = cjson.decode(envelope)
if known(turn) then
  if call('HGET', key('turn', turn), 'key') ~= said.key then return 'not_yours' end
  join(turn, envelope)
  return 'joined'
end
local function waits(whose) return tonumber(call('HGET', key('waiting_keys'), whose) or '0') end
if call('SISMEMBER', key('erased'), turn) == 1
    or waits(said.key) >= tonumber(of_key) or waits('') >= tonumber(of_all) then
  return 'unknown'
end
if put(key('waiting', turn), envelope, said) then
  call('HINCRBY', key('waiting_keys'), said.key, 1)
  call('HINCRBY', key('waiting_keys'), '', 1)
end
call('ZADD', key('waiting'), 'GT', said.time, turn)
return 'waits'
"""

PRIORITISE: Final = """
local turn, level = unpack(ARGV)
if not known(turn) then return 0 end
call('HSET', key('turn', turn), 'level', level)
place(turn)
return 1
"""

SET_REVIEWED: Final = """
local turn, reviewed = unpack(ARGV)
if not known(turn) then return 0 end
call('HSET', key('turn', turn), 'reviewed', reviewed)
place(turn)
return 1
"""

RATE: Final = """
local id, item, turn, time, body = unpack(ARGV)
if turn ~= '' and not known(turn) then return 0 end
local old = call('HGET', key('ratings'), id)
if old and cjson.decode(old).time >= tonumber(time) then return 1 end
call('HSET', key('ratings'), id, body)
call('SADD', key('item', item), id)
if turn ~= '' then call('SADD', key('rated', turn), id) end
return 1
"""

WITHDRAW: Final = """
local id, item, turn = unpack(ARGV)
call('SREM', key('item', item), id)
if turn ~= '' then call('SREM', key('rated', turn), id) end
return call('HDEL', key('ratings'), id)
"""

CLAIM: Final = """
local item, rater, now, expires = unpack(ARGV)
local ends = call('ZSCORE', key('claims'), item)
if ends and tonumber(ends) > tonumber(now) and call('HGET', key('claimants'), item) ~= rater then
  return 0
end
call('ZADD', key('claims'), expires, item)
call('HSET', key('claimants'), item, rater)
return 1
"""

RELEASE: Final = """
local item, rater, now = unpack(ARGV)
if call('HGET', key('claimants'), item) ~= rater then return 0 end
local ends = call('ZSCORE', key('claims'), item)
call('ZREM', key('claims'), item)
call('HDEL', key('claimants'), item)
return tonumber(ends) > tonumber(now) and 1 or 0
"""

ERASE: Final = """
local conversation, owner, now = unpack(ARGV)
local stone = cjson.encode({owner, conversation})
call('ZADD', key('tombstones'), 'NX', now, stone)
local turns = call('HGETALL', key('conversation', conversation))
local erased, others = 0, 0
for i = 1, #turns, 2 do
  if turns[i + 1] == owner then
    forget(turns[i])
    call('SADD', key('erased'), turns[i])
    call('SADD', key('stone', stone), turns[i])
    erased = erased + 1
  else
    others = others + 1
  end
end
if erased == 0 and others > 0 then return -1 end
return erased
"""

QUARANTINE: Final = """
local turn, reason = unpack(ARGV)
local body = call('HGET', key('turn', turn), 'body')
if not body then return 0 end
call('HSET', key('quarantine'), turn, cjson.encode({reason, body}))
return forget(turn)
"""

SWEEP: Final = """
local now, oldest, most, stale, step, small_step = unpack(ARGV)
local removed = 0
local function due(index, before, count)
  return call('ZRANGE', key(index), '-inf', before, 'BYSCORE', 'LIMIT', 0, count)
end
local function forget_all(turns)
  for _, turn in ipairs(turns) do removed = removed + forget(turn) end
  return #turns
end
for _, turn in ipairs(due('grace', now, step)) do
  drop_content(turn)
  removed = removed + 1
end
if oldest ~= '' then forget_all(due('times', '(' .. oldest, step)) end
if most ~= '' and tonumber(call('GET', key('bytes')) or '0') > tonumber(most) then
  if forget_all(due('unflagged', '+inf', small_step)) == 0 then
    forget_all(due('flagged', '+inf', small_step))
  end
end
for _, turn in ipairs(due('waiting', '(' .. stale, step)) do
  removed = removed + #take_waiting(turn)
end
for _, item in ipairs(due('claims', now, step)) do
  call('ZREM', key('claims'), item)
  call('HDEL', key('claimants'), item)
  removed = removed + 1
end
return removed
"""


ALL: Final = (
    "RECORD",
    "FEEDBACK",
    "PRIORITISE",
    "SET_REVIEWED",
    "RATE",
    "WITHDRAW",
    "CLAIM",
    "RELEASE",
    "ERASE",
    "QUARANTINE",
    "SWEEP",
)


def script(body: str) -> str:
    """A script with the functions that all of them share."""
    return _COMMON + body
