-- Dissector of Ouroboros for Wireshark and tshark (docs/howto/captures.md; docs/spec for every field).
--
-- Put this file into the folder of personal Lua plugins (Help, About, Folders), or: tshark -X lua_script:ouroboros.lua -r FILE
--
-- A packet of a flow names only its receiver. As ocap does, the dissector learns the format of a flow from the request and the reply that
-- allocate it, and the component from the first packet of each direction. It learns in the first pass, and keeps what it decided for each packet.

local p = Proto("ouroboros", "Ouroboros")

p.prefs.ethertype = Pref.uint("Ethertype of eth-dix", 0xA000, "Ethertype of eth-dix layers")
p.prefs.port = Pref.uint("UDP port", 3435, "Port of UDP layers")
p.prefs.hash = Pref.uint("Octets of a name's hash", 32, "32 for SHA3-256: of Ethernet and unicast layers")

local CODES_ETH = {[0] = "flow request", [1] = "flow reply", [2] = "name query", [3] = "name reply"}
local CODES_UDP = {[1] = "flow request", [2] = "flow reply"}
local CODES_FA = {[0] = "flow request", [1] = "flow reply", [2] = "flow update"}
local CUBES = {[0] = "best effort", [1] = "video", [2] = "voice"}
local EIDS = {["0"] = "flow allocator", ["1"] = "directory"}
local NONE, AES_CTR, AES_GCM = {}, {iv = 16, tag = 0}, {iv = 12, tag = 16}
local CIPHERS = {[0] = NONE, [904] = AES_CTR, [905] = AES_CTR, [906] = AES_CTR, [895] = AES_GCM, [898] = AES_GCM,
    [901] = AES_GCM, [1018] = AES_GCM}
local DIGESTS = {[0] = 0, [1057] = 32, [672] = 32, [1097] = 32, [673] = 48, [1098] = 48, [1056] = 64, [674] = 64, [1099] = 64}

local f = {
    layer = ProtoField.string("ouroboros.layer", "Layer"),
    flow = ProtoField.uint32("ouroboros.flow", "Flow", base.DEC, nil, nil, "Number of the flow in this capture"),
    data = ProtoField.bytes("ouroboros.data", "Data"),
    dix_eid = ProtoField.uint16("ouroboros.dix.eid", "Endpoint id of the receiver"),
    dix_length = ProtoField.uint16("ouroboros.dix.length", "Length of the payload"),
    udp_eid = ProtoField.uint32("ouroboros.udp.eid", "Endpoint id of the receiver"),
    mgmt_code = ProtoField.uint8("ouroboros.mgmt.code", "Message", base.DEC, CODES_ETH),
    udp_code = ProtoField.uint8("ouroboros.udp.code", "Message", base.DEC, CODES_UDP),
    source = ProtoField.uint32("ouroboros.mgmt.source", "Endpoint of the sender"),
    destination = ProtoField.uint32("ouroboros.mgmt.destination", "Endpoint of the receiver"),
    response = ProtoField.int32("ouroboros.response", "Response"),
    hash = ProtoField.bytes("ouroboros.hash", "Hash of the name"),
    bandwidth = ProtoField.uint64("ouroboros.qos.bandwidth", "Bandwidth (bit/s)"),
    delay = ProtoField.uint32("ouroboros.qos.delay", "Delay (ms)"),
    loss = ProtoField.uint32("ouroboros.qos.loss", "Loss"),
    ber = ProtoField.uint32("ouroboros.qos.ber", "Bit error rate"),
    max_gap = ProtoField.uint32("ouroboros.qos.max_gap", "Maximum gap (ms)"),
    timeout = ProtoField.uint32("ouroboros.qos.timeout", "Peer time-out (ms)"),
    in_order = ProtoField.uint8("ouroboros.qos.in_order", "In order"),
    availability = ProtoField.uint8("ouroboros.qos.availability", "Availability (nines)"),
    oap_id = ProtoField.bytes("ouroboros.oap.id", "Id"),
    oap_time = ProtoField.uint64("ouroboros.oap.timestamp", "Timestamp (ns)"),
    oap_cipher = ProtoField.uint16("ouroboros.oap.cipher", "Cipher"),
    oap_kdf = ProtoField.uint16("ouroboros.oap.kdf", "Key derivation"),
    oap_digest = ProtoField.uint16("ouroboros.oap.digest", "Digest"),
    oap_certificate = ProtoField.bytes("ouroboros.oap.certificate", "Certificate"),
    oap_kex = ProtoField.bytes("ouroboros.oap.kex", "Key exchange"),
    oap_request = ProtoField.bytes("ouroboros.oap.request_hash", "Hash of the request"),
    oap_signature = ProtoField.bytes("ouroboros.oap.signature", "Signature"),
    ext_type = ProtoField.uint16("ouroboros.ext.type", "Extension", base.HEX),
    ext_value = ProtoField.bytes("ouroboros.ext.value", "Value"),
    dt_dst = ProtoField.string("ouroboros.dt.dst", "Destination"),
    dt_cube = ProtoField.uint8("ouroboros.dt.cube", "QoS cube", base.DEC, CUBES),
    dt_ttl = ProtoField.uint8("ouroboros.dt.ttl", "TTL"),
    dt_ecn = ProtoField.uint8("ouroboros.dt.ecn", "ECN"),
    dt_eid = ProtoField.uint64("ouroboros.dt.eid", "Endpoint id", base.HEX),
    fa_code = ProtoField.uint8("ouroboros.fa.code", "Message", base.DEC, CODES_FA),
    fa_source = ProtoField.string("ouroboros.fa.source", "Address of the requester"),
    fa_to = ProtoField.uint64("ouroboros.fa.to", "Endpoint id of the receiver", base.HEX),
    fa_eid = ProtoField.uint64("ouroboros.fa.eid", "Endpoint id of the sender", base.HEX),
    fa_level = ProtoField.uint16("ouroboros.fa.level", "Congestion level"),
    frcp_flags = ProtoField.uint8("ouroboros.frcp.flags", "Flags", base.HEX),
    frcp_window = ProtoField.uint24("ouroboros.frcp.window", "Right window edge (24 bits)"),
    frcp_seq = ProtoField.uint32("ouroboros.frcp.seq", "Sequence number"),
    frcp_ack = ProtoField.uint32("ouroboros.frcp.ack", "Acknowledgement"),
    crc = ProtoField.uint32("ouroboros.crc", "CRC-32", base.HEX),
    iv = ProtoField.bytes("ouroboros.enc.iv", "Initialisation vector"),
    tag = ProtoField.bytes("ouroboros.enc.tag", "Tag"),
    ls_to = ProtoField.string("ouroboros.ls.to", "To"),
    ls_from = ProtoField.string("ouroboros.ls.from", "From"),
    ls_seq = ProtoField.uint64("ouroboros.ls.seq", "Sequence number"),
    ls_flags = ProtoField.uint8("ouroboros.ls.flags", "Flags", base.HEX),
    pb_number = ProtoField.uint64("ouroboros.pb.number", "Number"),
    pb_text = ProtoField.bytes("ouroboros.pb.octets", "Octets"),
}
local FLAGS = {"DATA", "DRF", "ACK", "FC", "RDV", "FFGM", "MFGM"}
for at, name in ipairs(FLAGS) do
    f["frcp_" .. name] = ProtoField.bool("ouroboros.frcp." .. name:lower(), name, 8, nil, 2 ^ (at - 1))
end
p.fields = f

local malformed = ProtoExpert.new("ouroboros.malformed", "Malformed", expert.group.MALFORMED, expert.severity.ERROR)
local bad_crc = ProtoExpert.new("ouroboros.crc.bad", "The CRC-32 does not match", expert.group.CHECKSUM, expert.severity.ERROR)
local refusal = ProtoExpert.new("ouroboros.refused", "The flow was refused", expert.group.RESPONSE_CODE, expert.severity.NOTE)
local guess = ProtoExpert.new("ouroboros.guessed", "Content guessed: the allocation was not captured",
    expert.group.ASSUMPTION, expert.severity.CHAT)
local expiring = ProtoExpert.new("ouroboros.ttl", "The TTL is used up", expert.group.SEQUENCE, expert.severity.WARN)
p.experts = {malformed, bad_crc, refusal, guess, expiring}

-- ------------------------------------------------------------ protobuf, for records, enrolment and directory

local CONTACT = {[1] = "id", [2] = "address"}
local SCHEMAS = {
    connection = {[1] = "component", [2] = "protocol", [3] = "version", [5] = "syntax", [8] = "address", [100] = "reason",
        [101] = "member", [102] = "tree", [103] = "timeout", [104] = "error", [105] = "link"},
    directory = {[1] = "code", [2] = {"source", CONTACT}, [3] = {"store", {[1] = "key", [2] = "value", [3] = "expires"}},
        [4] = {"find", {[1] = "cookie", [2] = "key"}},
        [5] = {"nodes", {[1] = "cookie", [2] = "key", [3] = {"contact", CONTACT}}}, [6] = {"values", {[1] = "value"}}},
    ["enrolment request"] = {[1] = "id", [100] = "layer", [101] = "address"},
    ["enrolment response"] = {[1] = "id", [2] = "seconds", [3] = "nanoseconds", [4] = "response",
        [5] = {"configuration", {[1] = {"layer", {[1] = "name", [2] = "hash"}}, [2] = "type", [3] = "unicast",
            [100] = "require", [101] = "admit"}}, [100] = "reason"},
    ["enrolment ack"] = {[1] = "id", [2] = "result", [100] = "reason"},
}

local unpack_of = table.unpack or unpack

local function varint(tvb, at)
    local value, scale = 0, 1
    for count = 0, 9 do
        if at + count >= tvb:len() then return nil end
        local octet = tvb(at + count, 1):uint()
        value = value + (octet % 128) * scale
        scale = scale * 128
        if octet < 128 then return value, at + count + 1 end
    end
    return nil
end

-- The fields of a message: {number, wire type, offset and length of the value, value}. nil when it is none.
local function protobuf(tvb)
    local found, at = {}, 0
    while at < tvb:len() do
        local key, start = varint(tvb, at)
        if key == nil or key < 8 then return nil end
        local number, kind = math.floor(key / 8), key % 8
        local value, stop
        if kind == 0 then
            value, stop = varint(tvb, start)
        elseif kind == 1 then
            stop = start + 8
        elseif kind == 5 then
            stop = start + 4
        elseif kind == 2 then
            local length, first = varint(tvb, start)
            if length == nil then return nil end
            start, stop = first, first + length
        end
        if stop == nil or stop > tvb:len() then return nil end
        found[#found + 1] = {number, kind, start, stop - start, value}
        at = stop
    end
    return found
end

local function text_of(tvb, field)
    return field[4] > 0 and tvb(field[3], field[4]):string() or ""
end

-- A connection record, as a table of its texts; nil when these octets are none.
local function record(tvb)
    if tvb:len() > 128 then return nil end
    local fields = protobuf(tvb)
    if fields == nil then return nil end
    local found = {}
    for _, field in ipairs(fields) do
        local number, kind = field[1], field[2]
        if SCHEMAS.connection[number] and kind ~= ((number == 1 or number == 2 or number == 100) and 2
                or (number == 101 or number == 102 or number == 105) and 1 or 0) then
            return nil
        end
        found[number] = kind == 2 and text_of(tvb, field) or field[5] or 0
    end
    for _, number in ipairs({1, 2, 3, 5, 8}) do
        if found[number] == nil then return nil end
    end
    return {component = found[1], protocol = found[2]}
end

local function show_protobuf(tvb, tree, schema)
    local fields = protobuf(tvb)
    if fields == nil then
        tree:add_proto_expert_info(malformed)
        return
    end
    for _, field in ipairs(fields) do
        local number, kind, at, length, value = unpack_of(field)
        local known = schema[number] or ("field " .. number)
        local name = type(known) == "table" and known[1] or known
        if type(known) == "table" then
            local inner = tree:add(p, tvb(at, length), name)
            if length > 0 then show_protobuf(tvb(at, length):tvb(), inner, known[2]) end
        elseif kind == 0 then
            tree:add(f.pb_number, tvb(at, length), UInt64.new(value % 2 ^ 32, math.floor(value / 2 ^ 32) % 2 ^ 32)):prepend_text(name .. ": ")
        elseif length > 0 then
            tree:add(f.pb_text, tvb(at, length)):prepend_text(name .. ": ")
        end
    end
end

-- ------------------------------------------------------------ flows

local flows, plans, count

function p.init()
    flows, plans, count = {}, {}, 0
end

local function new_flow(qos)
    count = count + 1
    return {number = count, qos = qos, cipher = NONE, digest = 0, senders = {}}
end

local function end_at(place)
    if flows[place] == nil then flows[place] = {new_flow(nil), true} end
    return flows[place][1], flows[place][2]
end

local function requested(place, qos, header, acceptor)
    local flow = new_flow(qos)
    flow.acceptor = acceptor
    if header then flow.digest, flow.wants = header.digest, header.kex > 0 end
    flows[place] = {flow, false}
end

local function request_of(place)
    local known = flows[place]
    if known == nil or known[2] then return new_flow(nil) end
    return known[1]
end

local function replied(requester, acceptor, flow, header)
    if header and flow.wants then flow.cipher = CIPHERS[header.cipher] or NONE end
    flows[requester], flows[acceptor] = {flow, false}, {flow, true}
end

local function address(range)
    local octets = {}
    for at = 3, 0, -1 do octets[#octets + 1] = string.format("%02x", range(at, 1):uint()) end
    return table.concat(octets, ".")
end

-- The last four of eight octets in network order, as the written form of an address.
local function be_address(range)
    return address(range(4, 4))
end

local function le_address(range)
    local octets = {}
    for at = 0, 3 do octets[#octets + 1] = string.format("%02x", range(at, 1):uint()) end
    return table.concat(octets, ".")
end

local function rest(tvb, at)
    return at < tvb:len() and tvb(at):tvb() or nil
end

local function layer(tree, tvb, name, length)
    local item = tree:add(p, tvb(0, math.min(length or tvb:len(), tvb:len())), "Ouroboros " .. name)
    item:add(f.layer, name):set_generated()
    return item
end

local crc_table
local function crc32(bytes, length)
    if crc_table == nil then
        crc_table = {}
        for at = 0, 255 do
            local value = at
            for _ = 1, 8 do
                value = bit.band(value, 1) == 1 and bit.bxor(bit.rshift(value, 1), 0xEDB88320) or bit.rshift(value, 1)
            end
            crc_table[at] = value
        end
    end
    local crc = 0xFFFFFFFF
    for at = 0, length - 1 do
        crc = bit.bxor(bit.rshift(crc, 8), crc_table[bit.band(bit.bxor(crc, bytes:get_index(at)), 0xFF)])
    end
    return bit.bxor(crc, 0xFFFFFFFF) % 2 ^ 32
end

-- ------------------------------------------------------------ what packets of flows carry

local flow_packet

local function link_state_fits(tvb)
    return tvb:len() == 24 or tvb:len() == 32
end

local function data_transfer_fits(tvb)
    if tvb:len() < 15 then return false end
    local eid, inner = tvb(7, 8):le_uint64():tonumber(), tvb:len() - 15
    if tvb(0, 4):le_uint() == 0 or tvb(5, 1):uint() == 0 then return false end
    if eid == 0 then
        return inner >= 61 and inner <= 2048 and tvb(15 + 58, 1):uint() <= 2
    end
    local fields = eid == 1 and inner > 0 and protobuf(tvb(15):tvb()) or {}
    return fields ~= nil and #fields >= 2 and fields[1][1] == 1 and fields[2][1] == 2
end

local CONTENTS = {["Enrollment/OEP"] = "enrolment", ["Management/LSP"] = "link state", ["Data Transfer/dtp"] = "data transfer",
    ["Data Transfer/"] = "application"}

-- The content of a packet of a flow, as ocap finds it; changes the flow.
local function learn(flow, from_requester, tvb)
    local seen
    if flow.qos == nil and flow.content == nil then
        seen = record(tvb)
        if seen == nil then
            if data_transfer_fits(tvb) then
                flow.content, flow.guessed = "data transfer", true
            elseif link_state_fits(tvb) then
                flow.content, flow.guessed = "link state", true
            end
        end
    elseif flow.qos ~= nil and not flow.senders[from_requester] then
        flow.senders[from_requester] = true
        if flow.introduced or flow.content == nil then seen = record(tvb) end
    end
    if seen then
        flow.introduced = true
        local known = CONTENTS[seen.component .. "/" .. seen.protocol]
        if known and not (known == "enrolment" and flow.qos == nil) then flow.content = known end
        return "connection"
    end
    if flow.content == nil and flow.qos ~= nil then flow.content = "application" end
    if flow.content == "enrolment" then
        if not from_requester then return "enrolment response" end
        if flow.asked then return "enrolment ack" end
        flow.asked = true
        return "enrolment request"
    end
    return flow.content
end

local function show_link_state(tvb, tree)
    if not link_state_fits(tvb) then
        tree:add_proto_expert_info(malformed)
        return
    end
    tree:add(f.ls_to, tvb(0, 8), be_address(tvb(0, 8)))
    tree:add(f.ls_from, tvb(8, 8), be_address(tvb(8, 8)))
    tree:add(f.ls_seq, tvb(16, 8))
    if tvb:len() == 32 then tree:add(f.ls_flags, tvb(25, 1)) end
end

local function show_qos(tree, tvb, at)
    for name, place in pairs(at) do tree:add(f[name], tvb(place[1], place[2])) end
    return {in_order = tvb(at.in_order[1], 1):uint(), ber = tvb(at.ber[1], 4):uint()}
end

-- The allocation handshake; returns its numbers.
local function handshake(tvb, tree, digest)
    if tvb == nil then return nil end
    local item = layer(tree, tvb, "oap")
    if tvb:len() < 36 then
        item:add_proto_expert_info(malformed)
        return nil
    end
    item:add(f.oap_id, tvb(0, 16))
    item:add(f.oap_time, tvb(16, 8))
    item:add(f.oap_cipher, tvb(24, 2))
    item:add(f.oap_kdf, tvb(26, 2))
    item:add(f.oap_digest, tvb(28, 2))
    local certificate, kex, data = tvb(30, 2):uint(), tvb(32, 2):uint() % 0x4000, tvb(34, 2):uint()
    local at, data_at = 36, 36 + certificate + kex
    for _, part in ipairs({{f.oap_certificate, certificate}, {f.oap_kex, kex}, {f.data, data}, {f.oap_request, digest}}) do
        if part[2] > 0 then
            if at + part[2] > tvb:len() then
                item:add_proto_expert_info(malformed)
                return nil
            end
            item:add(part[1], tvb(at, part[2]))
        end
        at = at + part[2]
    end
    if at < tvb:len() then item:add(f.oap_signature, tvb(at)) end
    if data >= 5 and tvb(data_at, 2):uint() == 0x4F37 then
        local extensions = layer(tree, tvb(data_at, data):tvb(), "extensions")
        local place, stop = data_at, data_at + data
        while place + 4 <= stop do
            local length = tvb(place + 2, 2):uint()
            if place + 4 + length > stop then
                extensions:add_proto_expert_info(malformed)
                break
            end
            extensions:add(f.ext_type, tvb(place, 2))
            if length > 0 then extensions:add(f.ext_value, tvb(place + 4, length)) end
            place = place + 4 + length
        end
    end
    return {cipher = tvb(24, 2):uint(), digest = DIGESTS[tvb(28, 2):uint()] or 0, kex = kex}
end

local function answer(tvb, pinfo, tree, response, requester, acceptor, again)
    local flow = not pinfo.visited and request_of(requester) or nil
    if flow then again.digest = flow.digest end
    local header = handshake(tvb, tree, again.digest or 0)
    if response ~= 0 then
        tree:add_proto_expert_info(refusal)
    elseif flow then
        replied(requester, acceptor(flow), flow, header)
    end
end

local FA_QOS = {bandwidth = {24, 8}, delay = {36, 4}, loss = {40, 4}, ber = {44, 4}, max_gap = {48, 4}, timeout = {52, 4},
    availability = {59, 1}, in_order = {60, 1}}

local function flow_allocator(tvb, pinfo, tree, destination, again)
    local item = layer(tree, tvb, "flow allocator", 61)
    if tvb:len() < 61 then
        item:add_proto_expert_info(malformed)
        return
    end
    local code = tvb(58, 1):uint()
    item:add(f.fa_code, tvb(58, 1))
    pinfo.cols.info:append(" " .. (CODES_FA[code] or "?"))
    if code == 0 then
        if tvb:len() < 61 + p.prefs.hash then
            item:add_proto_expert_info(malformed)
            return
        end
        item:add(f.fa_source, tvb(0, 8), be_address(tvb(0, 8)))
        item:add(f.fa_eid, tvb(16, 8))
        local qos = show_qos(item, tvb, FA_QOS)
        item:add(f.hash, tvb(61, p.prefs.hash))
        local header = handshake(rest(tvb, 61 + p.prefs.hash), tree, 0)
        if not pinfo.visited then
            local requester = "uni " .. be_address(tvb(0, 8)) .. " " .. tvb(16, 8):uint64():tohex()
            requested(requester, qos, header, destination)
        end
    elseif code == 1 then
        item:add(f.fa_to, tvb(8, 8))
        item:add(f.fa_eid, tvb(16, 8))
        item:add(f.response, tvb(32, 4))
        answer(rest(tvb, 61), pinfo, tree, tvb(32, 4):int(), "uni " .. destination .. " " .. tvb(8, 8):uint64():tohex(),
            function(flow) return "uni " .. tostring(flow.acceptor) .. " " .. tvb(16, 8):uint64():tohex() end, again)
    elseif code == 2 then
        item:add(f.fa_to, tvb(8, 8))
        item:add(f.fa_level, tvb(56, 2))
    else
        item:add_proto_expert_info(malformed)
    end
end

local function data_transfer(tvb, pinfo, tree, again)
    local item = layer(tree, tvb, "data transfer", 15)
    if tvb:len() < 15 then
        item:add_proto_expert_info(malformed)
        return
    end
    local destination, eid = le_address(tvb(0, 4)), tvb(7, 8):le_uint64()
    item:add(f.dt_dst, tvb(0, 4), destination)
    item:add(f.dt_cube, tvb(4, 1))
    item:add(f.dt_ttl, tvb(5, 1))
    item:add(f.dt_ecn, tvb(6, 1))
    item:add_le(f.dt_eid, tvb(7, 8))
    if tvb(5, 1):uint() <= 1 then item:add_proto_expert_info(expiring) end
    local inner, name = rest(tvb, 15), EIDS[tostring(eid)]
    pinfo.cols.info:append(" > " .. destination .. " " .. (name or ""))
    if name == "flow allocator" and inner then
        flow_allocator(inner, pinfo, tree, destination, again)
    elseif name == "directory" and inner then
        show_protobuf(inner, layer(tree, inner, "directory"), SCHEMAS.directory)
    elseif name == nil then
        flow_packet(inner, pinfo, tree, "uni " .. destination .. " " .. eid:tohex(), again, tvb)
    end
end

-- A packet that is received at a place. `again` keeps the decisions for this packet; `outer` shows keep-alives, which have no octets.
flow_packet = function(tvb, pinfo, tree, place, again, outer)
    local plan = again.inner
    if not pinfo.visited or plan == nil then
        local flow, from_requester = end_at(place)
        plan = {number = flow.number, flow = flow, from_requester = from_requester}
        again.inner = plan
        if tvb then
            local qos = flow.qos
            local bare = qos and qos.in_order > 0 and tvb:len() == 12
            plan.crc = qos and qos.ber == 0 and not bare
            plan.cipher = flow.cipher
            plan.frcp = qos and qos.in_order > 0
        end
    end
    tree:add(f.flow, plan.number):set_generated()
    if tvb == nil then
        layer(tree, outer, "keep-alive")
        return
    end
    if plan.crc then
        local item = layer(tree, tvb, "crc")
        local length = tvb:len() - 4
        if length < 0 then
            item:add_proto_expert_info(malformed)
            return
        end
        item:add(f.crc, tvb(length, 4))
        if crc32(tvb(0):bytes(), length) ~= tvb(length, 4):uint() then item:add_proto_expert_info(bad_crc) end
        if length == 0 then return end
        tvb = tvb(0, length):tvb()
    end
    if plan.cipher.iv then
        local item, iv, tag = layer(tree, tvb, "encrypted"), plan.cipher.iv, plan.cipher.tag
        if tvb:len() < iv + tag then
            item:add_proto_expert_info(malformed)
            return
        end
        item:add(f.iv, tvb(0, iv))
        if tag > 0 then item:add(f.tag, tvb(tvb:len() - tag, tag)) end
        return
    end
    if plan.frcp then
        local item = layer(tree, tvb, "frcp", 12)
        if tvb:len() < 12 then
            item:add_proto_expert_info(malformed)
            return
        end
        local flags = item:add(f.frcp_flags, tvb(0, 1))
        for _, name in ipairs(FLAGS) do flags:add(f["frcp_" .. name], tvb(0, 1)) end
        item:add(f.frcp_window, tvb(1, 3))
        item:add(f.frcp_seq, tvb(4, 4))
        item:add(f.frcp_ack, tvb(8, 4))
        tvb = rest(tvb, 12)
        if tvb == nil then return end
    end
    if plan.flow then
        plan.content = learn(plan.flow, plan.from_requester, tvb)
        plan.guessed = plan.flow.guessed
        plan.flow = nil
    end
    if plan.guessed then tree:add_proto_expert_info(guess) end
    if plan.content == "data transfer" then
        data_transfer(tvb, pinfo, tree, plan)
    elseif plan.content == "link state" then
        show_link_state(tvb, layer(tree, tvb, "link state"))
    elseif plan.content and SCHEMAS[plan.content] then
        pinfo.cols.info:append(" " .. plan.content)
        show_protobuf(tvb, layer(tree, tvb, plan.content), SCHEMAS[plan.content])
    else
        tree:add(f.data, tvb(0))
    end
end

-- ------------------------------------------------------------ layers below

local function begin(pinfo, name)
    pinfo.cols.protocol = "Ouroboros"
    pinfo.cols.info = name
    if plans[pinfo.number] == nil then plans[pinfo.number] = {} end
    return plans[pinfo.number]
end

-- Management messages of Ethernet layers: the fixed part has two layouts.
local DIX = {size = 39, first = 1, last = 4095, source = {0, 2}, destination = {2, 2}, response = {32, 4}, code = {37, 1},
    qos = {loss = {4, 4}, bandwidth = {8, 8}, ber = {16, 4}, max_gap = {20, 4}, delay = {24, 4}, timeout = {28, 4},
        in_order = {36, 1}, availability = {38, 1}}}
local LLC = {size = 37, first = 2, last = 63, source = {0, 1}, destination = {1, 1}, response = {32, 4}, code = {2, 1},
    qos = {loss = {4, 4}, bandwidth = {8, 8}, ber = {16, 4}, max_gap = {20, 4}, delay = {24, 4}, timeout = {28, 4},
        in_order = {36, 1}, availability = {3, 1}}}

local function management(tvb, pinfo, tree, at, from, to, again)
    local item = layer(tree, tvb, "management", at.size)
    if tvb:len() < at.size then
        item:add_proto_expert_info(malformed)
        return
    end
    local code = tvb(at.code[1], 1):uint()
    item:add(f.mgmt_code, tvb(at.code[1], 1))
    pinfo.cols.info:append(" " .. (CODES_ETH[code] or "?"))
    if code == 1 then
        item:add(f.source, tvb(at.source[1], at.source[2]))
        item:add(f.destination, tvb(at.destination[1], at.destination[2]))
        item:add(f.response, tvb(at.response[1], 4))
        local acceptor, requester = tvb(at.source[1], at.source[2]):uint(), tvb(at.destination[1], at.destination[2]):uint()
        if requester < at.first or requester > at.last then
            item:add_proto_expert_info(malformed)
            return
        end
        answer(rest(tvb, at.size), pinfo, tree, tvb(at.response[1], 4):int(), to .. " " .. requester,
            function() return from .. " " .. acceptor end, again)
        return
    end
    if code > 3 or tvb:len() < at.size + p.prefs.hash then
        item:add_proto_expert_info(malformed)
        return
    end
    item:add(f.hash, tvb(at.size, p.prefs.hash))
    if code == 0 then
        item:add(f.source, tvb(at.source[1], at.source[2]))
        local qos = show_qos(item, tvb, at.qos)
        local header = handshake(rest(tvb, at.size + p.prefs.hash), tree, 0)
        if not pinfo.visited then requested(from .. " " .. tvb(at.source[1], at.source[2]):uint(), qos, header) end
    end
end

local dix = Proto("ouroboros_dix", "Ouroboros eth-dix")
function dix.dissector(tvb, pinfo, root)
    local again = begin(pinfo, "eth-dix")
    local tree = root:add(p, tvb(0))
    local item = layer(tree, tvb, "eth-dix", 4)
    if tvb:len() < 4 then
        item:add_proto_expert_info(malformed)
        return
    end
    local eid, length = tvb(0, 2):uint(), tvb(2, 2):uint()
    item:add(f.dix_eid, tvb(0, 2))
    item:add(f.dix_length, tvb(2, 2))
    if 4 + length > tvb:len() or eid > 4095 then
        item:add_proto_expert_info(malformed)
        return
    end
    local inner = length > 0 and tvb(4, length):tvb() or nil
    local from, to = "dix " .. tostring(pinfo.dl_src), "dix " .. tostring(pinfo.dl_dst)
    if eid == 0 then
        if inner then
            management(inner, pinfo, tree, DIX, from, to, again)
        else
            item:add_proto_expert_info(malformed)
        end
    else
        flow_packet(inner, pinfo, tree, to .. " " .. eid, again, tvb)
    end
end

local function reversed(octet)
    local value = 0
    for _ = 1, 8 do
        value = value * 2 + octet % 2
        octet = math.floor(octet / 2)
    end
    return value
end

local llc = Proto("ouroboros_llc", "Ouroboros eth-llc")
function llc.dissector(tvb, pinfo, root)
    local again = begin(pinfo, "eth-llc")
    local tree = root:add(p, tvb(0))
    layer(tree, tvb, "eth-llc")
    local sap, inner = reversed(pinfo.match), rest(tvb, 0)
    local from, to = "llc " .. tostring(pinfo.dl_src), "llc " .. tostring(pinfo.dl_dst)
    if sap == 1 and inner then
        management(inner, pinfo, tree, LLC, from, to, again)
    elseif sap ~= 1 then
        flow_packet(inner, pinfo, tree, to .. " " .. sap, again, tvb)
    end
end

local UDP_QOS = {bandwidth = {16, 8}, delay = {24, 4}, loss = {28, 4}, ber = {32, 4}, max_gap = {36, 4}, timeout = {40, 4},
    availability = {45, 1}, in_order = {46, 1}}
local UDP_HASH, UDP_SIZE = 16, 47

local udp = Proto("ouroboros_udp", "Ouroboros UDP")
function udp.dissector(tvb, pinfo, root)
    local again = begin(pinfo, "udp layer")
    local tree = root:add(p, tvb(0))
    local item = layer(tree, tvb, "udp layer", 4)
    if tvb:len() < 4 then
        item:add_proto_expert_info(malformed)
        return
    end
    local eid = tvb(0, 4):uint()
    local from = "udp " .. tostring(pinfo.src) .. " " .. pinfo.src_port
    local to = "udp " .. tostring(pinfo.dst) .. " " .. pinfo.dst_port
    item:add(f.udp_eid, tvb(0, 4))
    if eid > 4095 then
        item:add_proto_expert_info(malformed)
    elseif eid ~= 0 then
        flow_packet(rest(tvb, 4), pinfo, tree, to .. " " .. eid, again, tvb)
    elseif tvb:len() < UDP_SIZE then
        item:add_proto_expert_info(malformed)
    else
        local code, requester = tvb(44, 1):uint(), tvb(4, 4):uint()
        item:add(f.udp_code, tvb(44, 1))
        item:add(f.source, tvb(4, 4))
        pinfo.cols.info:append(" " .. (CODES_UDP[code] or "?"))
        if code == 1 and tvb:len() >= UDP_SIZE + UDP_HASH then
            local qos = show_qos(item, tvb, UDP_QOS)
            item:add(f.hash, tvb(UDP_SIZE, UDP_HASH))
            local header = handshake(rest(tvb, UDP_SIZE + UDP_HASH), tree, 0)
            if not pinfo.visited then requested(from .. " " .. requester, qos, header) end
        elseif code == 2 then
            item:add(f.destination, tvb(8, 4))
            item:add(f.response, tvb(12, 4))
            local acceptor = tvb(8, 4):uint()
            answer(rest(tvb, UDP_SIZE), pinfo, tree, tvb(12, 4):int(), to .. " " .. requester,
                function() return from .. " " .. acceptor end, again)
        else
            item:add_proto_expert_info(malformed)
        end
    end
end

local registered = {}
local function register()
    for place, number in pairs(registered) do DissectorTable.get(place):remove(number, place == "ethertype" and dix or udp) end
    registered = {ethertype = p.prefs.ethertype, ["udp.port"] = p.prefs.port}
    DissectorTable.get("ethertype"):add(p.prefs.ethertype, dix)
    DissectorTable.get("udp.port"):add(p.prefs.port, udp)
end
p.prefs_changed = register
register()
for sap = 1, 63 do DissectorTable.get("llc.dsap"):add(reversed(sap), llc) end
