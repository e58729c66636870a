-- Facts live in schema `facts`; the views in `main` are the public read surface with stable names.
-- No foreign keys and no sequences: the same SQL must later run on DuckLake. Times are UTC.
CREATE SCHEMA facts;

CREATE TABLE facts.person (person_id VARCHAR, name VARCHAR, role VARCHAR, recorded_at TIMESTAMP);

CREATE TABLE facts.import (
    import_id VARCHAR, source_id VARCHAR, kind VARCHAR, file_name VARCHAR, file_sha256 VARCHAR, licence VARCHAR, note VARCHAR,
    rows_read BIGINT, rows_added BIGINT, rows_rejected BIGINT, votes_added BIGINT, person_id VARCHAR, recorded_at TIMESTAMP);
CREATE TABLE facts.rejected_row (import_id VARCHAR, source_row BIGINT, line BIGINT, reason VARCHAR);

CREATE TABLE facts.image (
    image_id VARCHAR, height INTEGER, width INTEGER, mode VARCHAR, gray48 BLOB, mean DOUBLE, sd DOUBLE);
CREATE TABLE facts.sample (
    sample_id VARCHAR, source_id VARCHAR, source_row BIGINT, image_id VARCHAR, given_label VARCHAR, source_split VARCHAR,
    import_id VARCHAR);
CREATE TABLE facts.imported_vote (sample_id VARCHAR, origin VARCHAR, field VARCHAR, value VARCHAR, votes INTEGER);

-- op is set, unset, skip, undo or redo; undo and redo carry the event they switch in `target`.
CREATE TABLE facts.label_event (
    event_id UUID PRIMARY KEY, seq BIGINT, op VARCHAR, image_id VARCHAR, field VARCHAR, value VARCHAR, target UUID, gesture UUID,
    person_id VARCHAR, role VARCHAR, authentication VARCHAR, mode VARCHAR, lead_ms INTEGER, shown_at TIMESTAMP,
    decided_at TIMESTAMP, recorded_at TIMESTAMP);

CREATE TABLE facts.finding (
    kind VARCHAR, sample_id VARCHAR, image_id VARCHAR, group_id VARCHAR, score DOUBLE, evidence VARCHAR, recorded_at TIMESTAMP);

CREATE TABLE facts.version (
    version_id VARCHAR, name VARCHAR, number INTEGER, manifest_sha256 VARCHAR, recipe VARCHAR, counts VARCHAR, person_id VARCHAR,
    recorded_at TIMESTAMP);
CREATE TABLE facts.version_event (
    event_id UUID PRIMARY KEY, seq BIGINT, version_id VARCHAR, act VARCHAR, state VARCHAR, manifest_sha256 VARCHAR,
    person_id VARCHAR, role VARCHAR, authentication VARCHAR, reason VARCHAR, recorded_at TIMESTAMP);
CREATE TABLE facts.version_sample (
    version_id VARCHAR, sample_id VARCHAR, image_id VARCHAR, label VARCHAR, split VARCHAR, exclusion VARCHAR);

CREATE TABLE facts.run (
    run_id VARCHAR, version_id VARCHAR, model VARCHAR, protocol VARCHAR, state VARCHAR, config VARCHAR, test_reads INTEGER,
    recorded_at TIMESTAMP);
CREATE TABLE facts.epoch (
    run_id VARCHAR, fold INTEGER, epoch INTEGER, train_loss DOUBLE, train_accuracy DOUBLE, val_loss DOUBLE, val_accuracy DOUBLE,
    seconds DOUBLE, best BOOLEAN);
CREATE TABLE facts.prediction (
    run_id VARCHAR, sample_id VARCHAR, fold INTEGER, split VARCHAR, label VARCHAR, predicted VARCHAR, probabilities FLOAT[],
    out_of_fold BOOLEAN);

CREATE VIEW people AS
SELECT person_id, arg_max(name, recorded_at) AS name, arg_max(role, recorded_at) AS role, min(recorded_at) AS since
FROM facts.person GROUP BY person_id;

CREATE VIEW sources AS
SELECT source_id, arg_max(kind, recorded_at) AS kind, arg_max(file_name, recorded_at) AS file_name,
       arg_max(licence, recorded_at) AS licence, arg_max(note, recorded_at) AS note, sum(rows_added) AS rows_added,
       arg_max(rows_rejected, recorded_at) AS rows_rejected, max(recorded_at) AS recorded_at
FROM facts.import WHERE kind <> 'tags' GROUP BY source_id;

CREATE VIEW label_events AS
WITH once AS (SELECT DISTINCT ON (event_id) * FROM facts.label_event),
switched AS (SELECT target, arg_max(op, seq) AS last_op FROM once WHERE op IN ('undo', 'redo') GROUP BY target)
SELECT e.*, e.op IN ('set', 'unset', 'skip') AND coalesce(s.last_op, 'redo') = 'redo' AS active
FROM once AS e LEFT JOIN switched AS s ON s.target = e.event_id;

-- The standing choice of each person on each image and field; skipping does not take back an earlier answer.
CREATE VIEW standing AS
SELECT image_id, field, person_id, coalesce(arg_max(op, seq) FILTER (op <> 'skip'), 'skip') AS op,
       arg_max(value, seq) FILTER (op <> 'skip') AS value, max(recorded_at) AS recorded_at
FROM label_events WHERE active GROUP BY image_id, field, person_id;

CREATE VIEW votes AS
SELECT image_id, NULL AS sample_id, field, value, 1 AS votes, 'annotator' AS origin, person_id AS voter FROM standing WHERE op = 'set'
UNION ALL
SELECT s.image_id, v.sample_id, v.field, v.value, v.votes, v.origin, NULL AS voter
FROM facts.imported_vote AS v JOIN facts.sample AS s ON s.sample_id = v.sample_id;

-- Rule "plurality@1": the value that most annotators chose, none where two values tie; "cannot tell" is a value like any other.
CREATE VIEW decisions AS
WITH tally AS (
    SELECT image_id, field, value, count(*) AS n, max(count(*)) OVER (PARTITION BY image_id, field) AS top
    FROM standing WHERE op = 'set' GROUP BY image_id, field, value)
SELECT image_id, field, CASE WHEN count(*) FILTER (n = top) = 1 THEN any_value(value) FILTER (n = top) END AS value,
       sum(n) AS votes, count(*) FILTER (n = top) > 1 AS tied
FROM tally GROUP BY image_id, field;

-- Annotators' decision, else the tag that most imports of identical faces gave; none where two tie.
CREATE VIEW tags AS
WITH tally AS (
    SELECT s.image_id, v.field, v.value, sum(v.votes) AS n, max(sum(v.votes)) OVER (PARTITION BY s.image_id, v.field) AS top
    FROM facts.imported_vote AS v JOIN facts.sample AS s ON s.sample_id = v.sample_id
    WHERE v.origin = 'tags' GROUP BY s.image_id, v.field, v.value),
imported AS (
    SELECT image_id, field, CASE WHEN count(*) FILTER (n = top) = 1 THEN any_value(value) FILTER (n = top) END AS value
    FROM tally GROUP BY image_id, field)
SELECT coalesce(d.image_id, i.image_id) AS image_id, coalesce(d.field, i.field) AS field, coalesce(d.value, i.value) AS value
FROM (SELECT * FROM decisions WHERE field IN ('age_band', 'gender')) AS d
FULL JOIN imported AS i ON i.image_id = d.image_id AND i.field = d.field;

CREATE VIEW samples AS
WITH d AS (
    SELECT image_id, max(value) FILTER (field = 'expression') AS decided, bool_or(field = 'expression') AS voted,
           coalesce(string_agg(substr(field, 6), ',' ORDER BY field) FILTER (field LIKE 'flag_%'), '') AS flags
    FROM decisions GROUP BY image_id),
t AS (
    SELECT image_id, max(value) FILTER (field = 'age_band') AS age_band, max(value) FILTER (field = 'gender') AS gender
    FROM tags GROUP BY image_id)
SELECT s.sample_id, s.source_id, s.source_row, s.image_id, s.given_label, s.source_split,
       coalesce(CASE WHEN d.decided <> 'cannot_tell' THEN d.decided END, s.given_label) AS current_label,
       coalesce(d.voted, false) AS voted, coalesce(d.flags, '') AS flags, t.age_band, t.gender, i.mean, i.sd
FROM facts.sample AS s
JOIN facts.image AS i ON i.image_id = s.image_id
LEFT JOIN d ON d.image_id = s.image_id
LEFT JOIN t ON t.image_id = s.image_id;

CREATE VIEW images AS
SELECT image_id, height, width, mode, gray48, mean, sd FROM facts.image;

CREATE VIEW findings AS SELECT * FROM facts.finding;

CREATE VIEW versions AS
SELECT v.*, e.state, e.person_id AS last_person, e.reason AS last_reason, e.recorded_at AS last_at
FROM facts.version AS v
LEFT JOIN (SELECT version_id, arg_max(state, seq) AS state, arg_max(person_id, seq) AS person_id, arg_max(reason, seq) AS reason,
                  max(recorded_at) AS recorded_at FROM facts.version_event GROUP BY version_id) AS e
ON e.version_id = v.version_id;

CREATE VIEW version_samples AS SELECT * FROM facts.version_sample;
CREATE VIEW runs AS SELECT * FROM facts.run;
CREATE VIEW epochs AS SELECT * FROM facts.epoch;
CREATE VIEW predictions AS SELECT * FROM facts.prediction;

CREATE VIEW slices AS
SELECT sample_id, 'age_band' AS attribute, age_band AS slice FROM samples WHERE age_band IS NOT NULL
UNION ALL SELECT sample_id, 'gender', gender FROM samples WHERE gender IS NOT NULL
UNION ALL SELECT sample_id, 'source', source_id FROM samples;
