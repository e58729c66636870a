-- Custom schemes, maps between schemes, guidelines and example faces. All append-only; the built-in schemes and guidelines are in fercore.schemes.

-- One row a version: "name@N" is never written twice. classes is JSON: [{class_id, name, colour, keys, retired}, ...].
CREATE TABLE facts.scheme (
    scheme_id VARCHAR, slug VARCHAR, number INTEGER, field VARCHAR, name VARCHAR, classes VARCHAR, act VARCHAR, person_id VARCHAR,
    role VARCHAR, authentication VARCHAR, recorded_at TIMESTAMP);
-- steps is JSON: [{source, target, split}, ...]; a name is used once, so that what names a map means the same for ever.
CREATE TABLE facts.scheme_map (
    name VARCHAR, from_scheme VARCHAR, to_scheme VARCHAR, steps VARCHAR, person_id VARCHAR, role VARCHAR, authentication VARCHAR,
    recorded_at TIMESTAMP);
CREATE TABLE facts.guideline (
    slug VARCHAR, class_id VARCHAR, number INTEGER, text VARCHAR, person_id VARCHAR, role VARCHAR, authentication VARCHAR,
    recorded_at TIMESTAMP);
-- Faces shown with their class. Who may have seen one cannot give an independent first vote on it, also after it was put aside (active = false).
CREATE TABLE facts.example_face (
    scheme_id VARCHAR, image_id VARCHAR, value VARCHAR, active BOOLEAN, person_id VARCHAR, recorded_at TIMESTAMP);

CREATE VIEW schemes AS SELECT * FROM facts.scheme;
CREATE VIEW scheme_maps AS SELECT * FROM facts.scheme_map;

CREATE VIEW guidelines AS
SELECT slug, class_id, max(number) AS number, arg_max(text, number) AS text, arg_max(person_id, number) AS person_id,
       max(recorded_at) AS recorded_at
FROM facts.guideline GROUP BY slug, class_id;

-- All versions of a scheme share their examples; slug is the name before the "@".
CREATE VIEW example_faces AS
SELECT * FROM (
    SELECT split_part(scheme_id, '@', 1) AS slug, image_id, arg_max(scheme_id, recorded_at) AS scheme_id, arg_max(value, recorded_at) AS value,
           arg_max(active, recorded_at) AS active, arg_max(person_id, recorded_at) AS person_id, max(recorded_at) AS recorded_at
    FROM facts.example_face GROUP BY ALL) WHERE active;
