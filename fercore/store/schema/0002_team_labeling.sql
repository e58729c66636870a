-- Labeling by a team: campaigns, leases, rounds, gold, a hash chain over events, and current votes as a projection of them.

-- round: vote (independent), confirm (untouched in a verify grid), repeat (hidden second answer of the same person), practice, adjudication.
-- reason, inclusion and suggested say why the face was handed out and what was on screen; op may also be comment (value = the text) or seen.
ALTER TABLE facts.label_event ADD COLUMN round VARCHAR DEFAULT 'vote';
ALTER TABLE facts.label_event ADD COLUMN scheme_id VARCHAR;
ALTER TABLE facts.label_event ADD COLUMN campaign_id VARCHAR;
ALTER TABLE facts.label_event ADD COLUMN lease_id VARCHAR;
ALTER TABLE facts.label_event ADD COLUMN reason VARCHAR;
ALTER TABLE facts.label_event ADD COLUMN inclusion DOUBLE;
ALTER TABLE facts.label_event ADD COLUMN suggested VARCHAR;
ALTER TABLE facts.label_event ADD COLUMN suggested_by VARCHAR;
ALTER TABLE facts.label_event ADD COLUMN addressee VARCHAR;

-- One row a transaction: hash = sha256(prev_hash || the texts of its events in seq order, joined by line feeds).
CREATE TABLE facts.event_block (
    block BIGINT, first_seq BIGINT, last_seq BIGINT, events BIGINT, prev_hash VARCHAR, hash VARCHAR, recorded_at TIMESTAMP);

-- Append-only; the last row of a campaign counts. spec is the JSON of fercore.curation.campaigns.Campaign.
CREATE TABLE facts.campaign (campaign_id VARCHAR, spec VARCHAR, state VARCHAR, person_id VARCHAR, recorded_at TIMESTAMP);
-- Faces whose answer is known: accept holds every value that is right. The last row of an image and field counts.
CREATE TABLE facts.gold (image_id VARCHAR, field VARCHAR, accept VARCHAR[], active BOOLEAN, person_id VARCHAR, recorded_at TIMESTAMP);
CREATE TABLE facts.person_setting (person_id VARCHAR, name VARCHAR, value VARCHAR, recorded_at TIMESTAMP);

-- Who holds which faces. Rows are changed, unlike facts; ended_at is set when a lease is given back or taken over.
CREATE SCHEMA live;
CREATE TABLE live.lease (
    lease_id VARCHAR, campaign_id VARCHAR, person_id VARCHAR, client VARCHAR, number INTEGER, granted_at TIMESTAMP,
    expires_at TIMESTAMP, ended_at TIMESTAMP);
CREATE TABLE live.lease_face (
    lease_id VARCHAR, image_id VARCHAR, slot INTEGER, place INTEGER, round VARCHAR, reason VARCHAR, inclusion DOUBLE,
    suggested VARCHAR, suggested_by VARCHAR);

CREATE VIEW event_texts AS
SELECT seq, to_json([event_id::VARCHAR, seq::VARCHAR, op, image_id, field, value, target::VARCHAR, gesture::VARCHAR, person_id, role,
                     authentication, mode, lead_ms::VARCHAR, epoch_us(shown_at)::VARCHAR, epoch_us(decided_at)::VARCHAR,
                     epoch_us(recorded_at)::VARCHAR, round, scheme_id, campaign_id, lease_id, reason, inclusion::VARCHAR, suggested,
                     suggested_by, addressee])::VARCHAR AS text
FROM facts.label_event;

INSERT INTO facts.event_block
SELECT 1, min(seq), max(seq), count(*), '', sha256(string_agg(text, chr(10) ORDER BY seq)), max(now()::TIMESTAMP)
FROM event_texts HAVING count(*) > 0;

-- undo and redo switch the event they name; the last switch wins.
CREATE OR REPLACE VIEW label_events AS
WITH once AS (SELECT DISTINCT ON (event_id) * FROM facts.label_event),
switched AS (SELECT target, arg_max(op, seq) AS last_op FROM once WHERE op IN ('undo', 'redo') GROUP BY target)
SELECT e.*, e.op IN ('set', 'unset', 'skip', 'comment') AND coalesce(s.last_op, 'redo') = 'redo' AS active
FROM once AS e LEFT JOIN switched AS s ON s.target = e.event_id;

-- The standing choice of each person on each image, field and round: events folded in order; skipping takes back no earlier answer.
-- NULL for `who` or `ids` means all.
CREATE MACRO facts.fold(who, ids) AS TABLE
WITH mine AS (
    SELECT DISTINCT ON (event_id) * FROM facts.label_event
    WHERE (who IS NULL OR person_id IN (SELECT unnest(who))) AND (ids IS NULL OR image_id IN (SELECT unnest(ids)))),
switched AS (SELECT target, arg_max(op, seq) AS last_op FROM mine WHERE op IN ('undo', 'redo') GROUP BY target),
acts AS (
    SELECT m.* FROM mine AS m LEFT JOIN switched AS s ON s.target = m.event_id
    WHERE m.op IN ('set', 'unset', 'skip') AND coalesce(s.last_op, 'redo') = 'redo')
SELECT image_id, field, person_id, round, coalesce(arg_max(op, seq) FILTER (op <> 'skip'), 'skip') AS op,
       arg_max(value, seq) FILTER (op = 'set' OR op = 'unset') AS value,
       coalesce(arg_max(seq, seq) FILTER (op <> 'skip'), max(seq)) AS seq,
       coalesce(arg_max(event_id, seq) FILTER (op <> 'skip'), arg_max(event_id, seq)) AS event_id,
       arg_max(mode, seq) AS mode, arg_max(campaign_id, seq) AS campaign_id, arg_max(reason, seq) AS reason,
       arg_max(suggested, seq) AS suggested, arg_max(lead_ms, seq) AS lead_ms, max(recorded_at) AS recorded_at
FROM acts GROUP BY image_id, field, person_id, round;

-- Written in the transaction that appends the events; `fercore doctor` compares it with facts.fold(NULL, NULL).
CREATE SCHEMA projection;
CREATE TABLE projection.standing AS FROM facts.fold(NULL, NULL);
CREATE OR REPLACE VIEW standing AS SELECT * FROM projection.standing;

-- Independent votes only: confirmations, repeats, practice and adjudications are none.
CREATE OR REPLACE VIEW votes AS
SELECT image_id, NULL AS sample_id, field, value, 1 AS votes, 'annotator' AS origin, person_id AS voter
FROM standing WHERE op = 'set' AND round = 'vote'
UNION ALL
SELECT s.image_id, v.sample_id, v.field, v.value, v.votes, v.origin, NULL AS voter
FROM facts.imported_vote AS v JOIN facts.sample AS s ON s.sample_id = v.sample_id;

-- Rule "adjudicated-first@1": the last adjudication; else the value that most annotators chose, none where two tie; else what a verify grid
-- confirmed. Flags are yes or no; who names an expression of a face that others flag as non-face says no. NULL for `ids` means all images.
CREATE MACRO facts.decide(ids) AS TABLE
WITH here AS MATERIALIZED (FROM standing WHERE op = 'set' AND (ids IS NULL OR list_contains(ids, image_id))),
suspects AS (SELECT DISTINCT image_id FROM here WHERE field = 'flag_non_face' AND round IN ('vote', 'confirm')),
ballots AS (
    SELECT image_id, field, value FROM here WHERE round = 'vote'
    UNION ALL
    SELECT e.image_id, 'flag_non_face', 'no' FROM here AS e SEMI JOIN suspects AS s ON s.image_id = e.image_id
    ANTI JOIN (FROM here WHERE field = 'flag_non_face' AND round = 'vote') AS f ON f.image_id = e.image_id AND f.person_id = e.person_id
    WHERE e.field = 'expression' AND e.round = 'vote' AND e.value <> 'cannot_tell'),
tally AS (
    SELECT image_id, field, value, count(*) AS n, max(count(*)) OVER (PARTITION BY image_id, field) AS top
    FROM ballots GROUP BY image_id, field, value),
voted AS (
    SELECT image_id, field, CASE WHEN count(*) FILTER (n = top) = 1 THEN any_value(value) FILTER (n = top) END AS value,
           sum(n)::BIGINT AS votes, count(*) FILTER (n = top) > 1 AS tied FROM tally GROUP BY image_id, field),
settled AS (SELECT image_id, field, arg_max(value, seq) AS value FROM here WHERE round = 'adjudication' GROUP BY image_id, field),
confirmed AS (SELECT image_id, field, arg_max(value, seq) AS value FROM here WHERE round = 'confirm' GROUP BY image_id, field),
judged AS (
    SELECT coalesce(v.image_id, s.image_id) AS image_id, coalesce(v.field, s.field) AS field,
           coalesce(s.value, v.value) AS value, coalesce(v.votes, 0) AS votes, coalesce(v.tied, false) AND s.value IS NULL AS tied,
           CASE WHEN s.value IS NULL THEN 'votes' ELSE 'adjudicated' END AS how
    FROM voted AS v FULL JOIN settled AS s ON s.image_id = v.image_id AND s.field = v.field)
SELECT * FROM judged
UNION ALL
SELECT c.image_id, c.field, c.value, 0, false, 'confirmed' FROM confirmed AS c
ANTI JOIN judged AS j ON j.image_id = c.image_id AND j.field = c.field;

CREATE OR REPLACE VIEW decisions AS FROM facts.decide(NULL);

-- The tag that most imports of identical faces gave; none where two tie.
CREATE MACRO facts.imported_tags(ids) AS TABLE
WITH tally AS (
    SELECT s.image_id, v.field, v.value, sum(v.votes) AS n, max(sum(v.votes)) OVER (PARTITION BY s.image_id, v.field) AS top
    FROM facts.imported_vote AS v JOIN facts.sample AS s ON s.sample_id = v.sample_id
    WHERE v.origin = 'tags' AND (ids IS NULL OR list_contains(ids, s.image_id)) GROUP BY s.image_id, v.field, v.value)
SELECT image_id, field, CASE WHEN count(*) FILTER (n = top) = 1 THEN any_value(value) FILTER (n = top) END AS value
FROM tally GROUP BY image_id, field;

-- Annotators' decision, else the imported tag.
CREATE OR REPLACE VIEW tags AS
SELECT coalesce(d.image_id, i.image_id) AS image_id, coalesce(d.field, i.field) AS field, coalesce(d.value, i.value) AS value
FROM (SELECT * FROM decisions WHERE field IN ('age_band', 'gender')) AS d
FULL JOIN facts.imported_tags(NULL) AS i ON i.image_id = d.image_id AND i.field = d.field;

CREATE MACRO facts.described(ids) AS TABLE
WITH d AS (
    SELECT image_id, max(value) FILTER (field = 'expression') AS decided, bool_or(field = 'expression') AS voted,
           coalesce(string_agg(substr(field, 6), ',' ORDER BY field) FILTER (field LIKE 'flag_%' AND value = 'yes'), '') AS flags,
           max(value) FILTER (field = 'age_band') AS age_band, max(value) FILTER (field = 'gender') AS gender
    FROM facts.decide(ids) GROUP BY image_id),
t AS (
    SELECT image_id, max(value) FILTER (field = 'age_band') AS age_band, max(value) FILTER (field = 'gender') AS gender
    FROM facts.imported_tags(ids) GROUP BY image_id)
SELECT s.sample_id, s.source_id, s.source_row, s.image_id, s.given_label, s.source_split,
       coalesce(CASE WHEN d.decided <> 'cannot_tell' THEN d.decided END, s.given_label) AS current_label,
       coalesce(d.voted, false) AS voted, coalesce(d.flags, '') AS flags, coalesce(d.age_band, t.age_band) AS age_band,
       coalesce(d.gender, t.gender) AS gender, i.mean, i.sd
FROM facts.sample AS s
JOIN facts.image AS i ON i.image_id = s.image_id
LEFT JOIN d ON d.image_id = s.image_id
LEFT JOIN t ON t.image_id = s.image_id
WHERE ids IS NULL OR list_contains(ids, s.image_id); -- for a page of ids: planning a subquery costs more than the scan

CREATE OR REPLACE VIEW samples AS FROM facts.described(NULL);

CREATE VIEW campaigns AS
SELECT campaign_id, arg_max(spec, recorded_at) AS spec, arg_max(state, recorded_at) AS state, min(recorded_at) AS since,
       arg_min(person_id, recorded_at) AS person_id
FROM facts.campaign GROUP BY campaign_id;

CREATE VIEW gold AS
SELECT * FROM (
    SELECT image_id, field, arg_max(accept, recorded_at) AS accept, arg_max(active, recorded_at) AS active FROM facts.gold
    GROUP BY image_id, field) WHERE active;

CREATE VIEW comments AS
SELECT e.event_id, e.image_id, e.value AS text, e.person_id, e.addressee, e.recorded_at,
       EXISTS (FROM facts.label_event AS s WHERE s.op = 'seen' AND s.target = e.event_id) AS seen
FROM label_events AS e WHERE e.op = 'comment' AND e.active;
