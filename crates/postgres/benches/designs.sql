-- Three ways to keep claims that end, compared: what a claim costs, and what getting rid of ended claims costs. The crate's
-- documentation has the figures and says why the third is taken.
--
--     psql --quiet --no-psqlrc --variable rows=200000 --file benches/designs.sql
--
-- It works in a schema of its own, `firstseen_designs`, which it drops.
\set ON_ERROR_STOP on
\pset tuples_only on
SET client_min_messages = warning;
DROP SCHEMA IF EXISTS firstseen_designs CASCADE;
CREATE SCHEMA firstseen_designs;
SET search_path = firstseen_designs;

-- Ids that are new in each round, and the same for each design.
CREATE FUNCTION ids(p_round integer, p_batch integer) RETURNS bytea[] LANGUAGE sql AS $$
    SELECT array_agg(id ORDER BY id) FROM (
        SELECT decode(md5(p_round || '.' || p_batch || '.' || n), 'hex') AS id FROM generate_series(1, 1000) AS n
    ) AS made
$$;

-- 1. One table. An ended claim is replaced when its id comes again, and deleted otherwise.
CREATE TABLE plain (
    namespace integer, first_seen bigint, ends bigint, call uuid, id bytea, PRIMARY KEY (namespace, id)
);
CREATE INDEX ON plain (ends);
CREATE FUNCTION claim_plain(p_ids bytea[], p_now bigint, p_ends bigint, p_call uuid) RETURNS bigint
LANGUAGE plpgsql SET enable_seqscan = off SET plan_cache_mode = force_generic_plan AS $$
DECLARE
    v_missing bytea[]; v_made bigint := 0;
BEGIN
    SELECT array_agg(u.id ORDER BY u.id) INTO v_missing FROM unnest(p_ids) AS u(id)
    WHERE NOT EXISTS (SELECT FROM plain AS o WHERE o.namespace = 1 AND o.id = u.id AND o.ends > p_now);
    INSERT INTO plain AS c SELECT 1, p_now, p_ends, p_call, m.id FROM unnest(v_missing) AS m(id)
    ON CONFLICT (namespace, id) DO UPDATE SET first_seen = excluded.first_seen, ends = excluded.ends, call = excluded.call
    WHERE c.ends <= p_now;
    GET DIAGNOSTICS v_made = ROW_COUNT;
    RETURN v_made;
END $$;

-- 2. Partitions by the time of the end. No index spans them, so each id has an advisory lock while it is looked for in all.
CREATE TABLE ranged (
    namespace integer, first_seen bigint, ends bigint, call uuid, id bytea, PRIMARY KEY (namespace, id, ends)
) PARTITION BY RANGE (ends);
CREATE TABLE ranged_0 PARTITION OF ranged FOR VALUES FROM (0) TO (1000);
CREATE TABLE ranged_1 PARTITION OF ranged FOR VALUES FROM (1000) TO (2000);
CREATE TABLE ranged_2 PARTITION OF ranged FOR VALUES FROM (2000) TO (3000);
CREATE TABLE ranged_3 PARTITION OF ranged FOR VALUES FROM (3000) TO (4000);
CREATE TABLE ranged_4 PARTITION OF ranged FOR VALUES FROM (4000) TO (5000);
CREATE FUNCTION claim_ranged(p_ids bytea[], p_now bigint, p_ends bigint, p_call uuid) RETURNS bigint
LANGUAGE plpgsql SET enable_seqscan = off SET plan_cache_mode = force_generic_plan AS $$
DECLARE
    v_made bigint := 0;
BEGIN
    PERFORM pg_advisory_xact_lock(key) FROM (
        SELECT hashtextextended(encode(u.id, 'hex'), 1) AS key FROM unnest(p_ids) AS u(id) ORDER BY 1
    ) AS keys;
    INSERT INTO ranged SELECT 1, p_now, p_ends, p_call, u.id FROM unnest(p_ids) AS u(id)
    WHERE NOT EXISTS (SELECT FROM ranged AS o WHERE o.namespace = 1 AND o.id = u.id AND o.ends > p_now);
    GET DIAGNOSTICS v_made = ROW_COUNT;
    RETURN v_made;
END $$;

-- 3. Generations: one partition takes all new claims and makes ids unique, and those before it are only looked at.
CREATE TABLE gate (generations integer[]);
INSERT INTO gate VALUES ('{0,1,2,3,4}');
CREATE TABLE generational (
    generation integer, namespace integer, first_seen bigint, ends bigint, call uuid, id bytea,
    PRIMARY KEY (generation, namespace, id)
) PARTITION BY LIST (generation);
CREATE TABLE generational_0 PARTITION OF generational FOR VALUES IN (0);
CREATE TABLE generational_1 PARTITION OF generational FOR VALUES IN (1);
CREATE TABLE generational_2 PARTITION OF generational FOR VALUES IN (2);
CREATE TABLE generational_3 PARTITION OF generational FOR VALUES IN (3);
CREATE TABLE generational_4 PARTITION OF generational FOR VALUES IN (4);
CREATE FUNCTION claim_generational(p_ids bytea[], p_now bigint, p_ends bigint, p_call uuid) RETURNS bigint
LANGUAGE plpgsql SET enable_seqscan = off SET plan_cache_mode = force_generic_plan AS $$
DECLARE
    v_generations integer[]; v_missing bytea[]; v_made bigint := 0;
BEGIN
    PERFORM pg_advisory_xact_lock_shared(1);
    SELECT g.generations INTO v_generations FROM gate AS g;
    v_missing := p_ids;
    FOR i IN REVERSE cardinality(v_generations)..1 LOOP
        SELECT array_agg(u.id) INTO v_missing FROM unnest(v_missing) AS u(id)
        WHERE NOT EXISTS (
            SELECT FROM (
                SELECT FROM generational AS o
                WHERE o.generation = v_generations[i] AND o.namespace = 1 AND o.id = u.id AND o.ends > p_now
                LIMIT 1
            ) AS found
        );
        IF v_missing IS NULL THEN RETURN 0; END IF;
    END LOOP;
    INSERT INTO generational AS c
    SELECT v_generations[cardinality(v_generations)], 1, p_now, p_ends, p_call, m.id FROM unnest(v_missing) AS m(id)
    ON CONFLICT (generation, namespace, id) DO UPDATE
    SET first_seen = excluded.first_seen, ends = excluded.ends, call = excluded.call
    WHERE c.ends <= p_now;
    GET DIAGNOSTICS v_made = ROW_COUNT;
    RETURN v_made;
END $$;

-- Makes the claims of a round, with a commit for each thousand.
CREATE PROCEDURE claim_round(p_design text, p_round integer, p_rows integer, p_ends bigint)
LANGUAGE plpgsql AS $$
BEGIN
    FOR b IN 1..p_rows / 1000 LOOP
        EXECUTE format('SELECT claim_%s(ids($1, $2), 0, $3, gen_random_uuid())', p_design)
        USING p_round, b, p_ends;
        COMMIT;
    END LOOP;
END $$;

-- Gets rid of the claims of the first four rounds.
CREATE PROCEDURE expire(p_design text)
LANGUAGE plpgsql AS $$
BEGIN
    IF p_design = 'plain' THEN
        DELETE FROM plain WHERE ends <= 4000;
    ELSE
        FOR n IN 0..3 LOOP
            EXECUTE format('DROP TABLE %s_%s', p_design, n);
        END LOOP;
    END IF;
    COMMIT;
END $$;

CREATE TABLE figures (step integer, design text, what text, rows integer, seconds numeric, wal bigint);

-- Does the same for each design, and notes what it takes.
CREATE PROCEDURE compare(p_step integer, p_what text, p_round integer, p_rows integer, p_ends bigint)
LANGUAGE plpgsql AS $$
DECLARE
    v_design text; v_began timestamptz; v_lsn pg_lsn;
BEGIN
    FOREACH v_design IN ARRAY '{plain,ranged,generational}'::text[] LOOP
        v_lsn := pg_current_wal_insert_lsn();
        v_began := clock_timestamp();
        IF p_ends > 0 THEN
            CALL claim_round(v_design, p_round, p_rows, p_ends);
        ELSE
            CALL expire(v_design);
        END IF;
        INSERT INTO figures VALUES (
            p_step, v_design, p_what, p_rows, extract(epoch FROM clock_timestamp() - v_began),
            pg_wal_lsn_diff(pg_current_wal_insert_lsn(), v_lsn)
        );
        COMMIT;
    END LOOP;
END $$;

-- Four fifths of the claims of a ttl are there before.
UPDATE gate SET generations = '{0}';
CALL compare(0, 'before', 0, :rows / 4, 500);
UPDATE gate SET generations = '{0,1}';
CALL compare(0, 'before', 1, :rows / 4, 1500);
UPDATE gate SET generations = '{0,1,2}';
CALL compare(0, 'before', 2, :rows / 4, 2500);
UPDATE gate SET generations = '{0,1,2,3}';
CALL compare(0, 'before', 3, :rows / 4, 3500);
UPDATE gate SET generations = '{0,1,2,3,4}';
ANALYZE;
CHECKPOINT;
CALL compare(1, 'new ids', 4, :rows, 4500);
CALL compare(2, 'duplicates', 4, :rows, 4500);
CHECKPOINT;
CALL compare(3, 'expiry', 0, :rows, 0);
\echo the vacuum that the first design needs after it:
\timing on
VACUUM plain;
\timing off
\echo what | design | rows a second | bytes of WAL a row | seconds
SELECT what, design, round(rows / seconds), round(wal::numeric / rows), round(seconds, 2)
FROM figures WHERE step > 0 ORDER BY step, design;
DROP SCHEMA firstseen_designs CASCADE;
