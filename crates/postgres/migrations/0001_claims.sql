-- firstseen for Postgres, version 1: claims.
--
-- `PostgresStore::migrate` applies these files in order, in one transaction, under a lock. To apply them with a tool of your
-- own, create the schema first, and keep each file in one transaction:
--
--     psql --set ON_ERROR_STOP=1 --single-transaction --command 'CREATE SCHEMA firstseen' \
--          --file 0001_claims.sql --file 0002_ledger.sql
--
-- For a schema of another name replace `firstseen.` everywhere. No superuser and no extension is needed.
--
-- Times are milliseconds since 1970 (UTC) by the clock of this server; 9223372036854775807 never comes.
-- Names, ids and texts are bytes, so that they may be any, whatever the encoding of the database.

CREATE TABLE firstseen.versions (
    version integer PRIMARY KEY,
    applied_at timestamptz NOT NULL DEFAULT now()
);

CREATE FUNCTION firstseen.clock() RETURNS bigint
LANGUAGE sql VOLATILE AS $$
    -- Not now(): that stands still in a transaction.
    SELECT floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint
$$;

-- Where claims are kept. A generation is a partition; a namespace makes its claims in one, its current one, whose primary key
-- makes each id unique. The generations before that are sealed: nothing is inserted there any more, so that one look tells
-- what they hold. A generation is dropped as a whole when all of its claims have ended.
CREATE TABLE firstseen.generations (
    number integer PRIMARY KEY,
    -- Of namespaces with ttls up to this; NULL for longer ones, and for all until the first maintenance.
    span bigint,
    opened bigint NOT NULL,
    sealed bigint,
    -- When all of its claims have ended; NULL while it is not sealed.
    ends_max bigint
);
CREATE SEQUENCE firstseen.generation_numbers AS integer;
INSERT INTO firstseen.generations (number, opened) VALUES (0, firstseen.clock());

CREATE TABLE firstseen.namespaces (
    number integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name bytea NOT NULL UNIQUE,
    -- The longest ttl that a claim was made with; zero if there was none.
    ttl_max bigint NOT NULL DEFAULT 0,
    -- Those that may have claims of it. The last is the current one.
    generations integer[] NOT NULL DEFAULT '{0}'
);

CREATE TABLE firstseen.claims (
    generation integer NOT NULL,
    namespace integer NOT NULL,
    first_seen bigint NOT NULL,
    ends bigint NOT NULL,
    -- The call that made it: repeated, it hears that it was first.
    call uuid NOT NULL,
    id bytea NOT NULL,
    PRIMARY KEY (generation, namespace, id)
) PARTITION BY LIST (generation);
-- The generation of claims that no partition can be dropped for: here ended ones are deleted.
CREATE TABLE firstseen.claims_0 PARTITION OF firstseen.claims FOR VALUES IN (0);
CREATE INDEX claims_0_ends ON firstseen.claims_0 (ends) WHERE ends < 9223372036854775807;

-- The key of the advisory lock between claims, which share it, and changes of the current generations, which need it alone.
CREATE FUNCTION firstseen.gate() RETURNS bigint
LANGUAGE sql STABLE AS $$
    SELECT (1179874113::bigint << 32) | 'firstseen.claims'::regclass::oid::bigint
$$;

-- The key of the advisory lock that one maintenance at a time has.
CREATE FUNCTION firstseen.maintenance() RETURNS bigint
LANGUAGE sql STABLE AS $$
    SELECT (1179874114::bigint << 32) | 'firstseen.claims'::regclass::oid::bigint
$$;

-- Keeps the current generations as they are until the end of the transaction.
CREATE FUNCTION firstseen.pass_gate() RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
    -- Each later statement must see what was committed before it, not before the transaction.
    IF current_setting('transaction_isolation') <> 'read committed' THEN
        RAISE EXCEPTION 'claims need a transaction of the isolation level READ COMMITTED, not %',
            upper(current_setting('transaction_isolation')) USING ERRCODE = 'ZS001';
    END IF;
    PERFORM pg_advisory_xact_lock_shared(firstseen.gate());
END
$$;

-- Sets up a transaction that is the store's own: how long it waits for a lock, and whether its commit waits for the disk.
-- `p_lock_ms` is NULL in a transaction of the caller, whose settings are left alone.
CREATE FUNCTION firstseen.enter(p_lock_ms integer, p_relaxed boolean) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
    IF p_lock_ms IS NULL THEN
        RETURN;
    END IF;
    PERFORM set_config('lock_timeout', p_lock_ms::text, true);
    IF p_relaxed THEN
        PERFORM set_config('synchronous_commit', 'off', true);
    ELSIF current_setting('synchronous_commit') = 'off' THEN
        PERFORM set_config('synchronous_commit', 'on', true);
    END IF;
END
$$;

-- Returns the class of ttls that share generations: up to an hour, or four, or sixteen, and so on up to two years. NULL: longer,
-- or no claims at all.
CREATE FUNCTION firstseen.span(p_ttl bigint) RETURNS bigint
LANGUAGE sql IMMUTABLE AS $$
    SELECT min(3600000 * 4::bigint ^ n)::bigint
    FROM generate_series(0, 7) AS n
    WHERE p_ttl > 0 AND 3600000 * 4::bigint ^ n >= p_ttl
$$;

-- Claims ids, which are distinct. Returns the places of those that had a claim, counted from one, when it was made, and whether
-- that was by this very call, repeated. All others are claimed, at the time `made`.
CREATE FUNCTION firstseen.claim(
    p_namespace bytea, p_ids bytea[], p_ttl bigint, p_call bytea, p_lock_ms integer, p_relaxed boolean,
    OUT places bigint[], OUT seen bigint[], OUT own boolean[], OUT made bigint
)
LANGUAGE plpgsql
-- A plan that was made when a partition was empty must not scan it when it is full.
SET enable_seqscan = off
SET plan_cache_mode = force_generic_plan
AS $$
DECLARE
    v_never CONSTANT bigint := 9223372036854775807;
    v_call CONSTANT uuid := encode(p_call, 'hex')::uuid;
    v_ttl CONSTANT bigint := coalesce(p_ttl, v_never);
    v_space firstseen.namespaces;
    v_missing bytea[];
    v_places bigint[];
    v_found bigint[];
    v_seen bigint[];
    v_own boolean[];
    v_count bigint;
BEGIN
    PERFORM firstseen.enter(p_lock_ms, p_relaxed);
    PERFORM firstseen.pass_gate();
    LOOP
        SELECT * INTO v_space FROM firstseen.namespaces WHERE name = p_namespace;
        EXIT WHEN FOUND;
        INSERT INTO firstseen.namespaces (name, ttl_max, generations)
        VALUES (p_namespace, v_ttl, ARRAY[coalesce(
            (SELECT g.number FROM firstseen.generations AS g
             WHERE g.span = firstseen.span(v_ttl) AND g.sealed IS NULL), 0)])
        ON CONFLICT (name) DO NOTHING;
    END LOOP;
    IF v_space.ttl_max < v_ttl THEN
        UPDATE firstseen.namespaces SET ttl_max = v_ttl
        WHERE number = v_space.number AND ttl_max < v_ttl;
    END IF;

    made := firstseen.clock();
    FOR v_round IN 1..100 LOOP
        places := NULL;
        seen := NULL;
        own := NULL;
        v_missing := p_ids;
        v_places := ARRAY(SELECT generate_series(1, cardinality(p_ids)));
        -- The newest first: there most duplicates are, and only there others may be inserting.
        FOR i IN REVERSE cardinality(v_space.generations)..1 LOOP
            SELECT array_agg(u.id) FILTER (WHERE c.id IS NULL),
                array_agg(u.place) FILTER (WHERE c.id IS NULL),
                array_agg(u.place) FILTER (WHERE c.id IS NOT NULL),
                array_agg(c.first_seen) FILTER (WHERE c.id IS NOT NULL),
                array_agg(c.call = v_call) FILTER (WHERE c.id IS NOT NULL)
            INTO v_missing, v_places, v_found, v_seen, v_own
            FROM unnest(v_missing, v_places) AS u(id, place)
            -- The limit keeps this a look at the index for each id, whatever the planner thinks of the size of the table.
            LEFT JOIN LATERAL (
                SELECT o.id, o.first_seen, o.call FROM firstseen.claims AS o
                WHERE o.generation = v_space.generations[i] AND o.namespace = v_space.number
                    AND o.id = u.id AND o.ends > made
                LIMIT 1
            ) AS c ON true;
            places := places || v_found;
            seen := seen || v_seen;
            own := own || v_own;
            IF v_missing IS NULL THEN
                RETURN;
            END IF;
        END LOOP;

        -- In ascending order, so that callers who claim the same ids wait for each other in the same order.
        INSERT INTO firstseen.claims AS c (generation, namespace, first_seen, ends, call, id)
        SELECT v_space.generations[cardinality(v_space.generations)], v_space.number, made,
            CASE WHEN v_ttl = v_never THEN v_never ELSE made + v_ttl END, v_call, m.id
        FROM unnest(v_missing) AS m(id) ORDER BY m.id
        ON CONFLICT (generation, namespace, id) DO UPDATE
        SET first_seen = excluded.first_seen, ends = excluded.ends, call = excluded.call
        WHERE c.ends <= made;
        GET DIAGNOSTICS v_count = ROW_COUNT;
        IF v_count = cardinality(v_missing) THEN
            RETURN;
        END IF;
        -- Somebody else was faster with some of them: look again. Those of this call are known by it.
    END LOOP;
    RAISE EXCEPTION 'these ids are claimed and forgotten by others again and again'
        USING ERRCODE = 'serialization_failure';
END
$$;

CREATE FUNCTION firstseen.contains(p_namespace bytea, p_id bytea) RETURNS boolean
LANGUAGE plpgsql
SET enable_seqscan = off
SET plan_cache_mode = force_generic_plan
AS $$
DECLARE
    v_space firstseen.namespaces;
    v_now CONSTANT bigint := firstseen.clock();
BEGIN
    SELECT * INTO v_space FROM firstseen.namespaces WHERE name = p_namespace;
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    FOR i IN REVERSE cardinality(v_space.generations)..1 LOOP
        IF EXISTS (
            SELECT FROM firstseen.claims AS c
            WHERE c.generation = v_space.generations[i] AND c.namespace = v_space.number
                AND c.id = p_id AND c.ends > v_now
        ) THEN
            RETURN true;
        END IF;
    END LOOP;
    RETURN false;
END
$$;

CREATE FUNCTION firstseen.forget(p_namespace bytea, p_id bytea, p_lock_ms integer, p_relaxed boolean) RETURNS boolean
LANGUAGE plpgsql
SET enable_seqscan = off
SET plan_cache_mode = force_generic_plan
AS $$
DECLARE
    v_space firstseen.namespaces;
    v_now bigint;
BEGIN
    PERFORM firstseen.enter(p_lock_ms, p_relaxed);
    PERFORM firstseen.pass_gate();
    SELECT * INTO v_space FROM firstseen.namespaces WHERE name = p_namespace;
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    v_now := firstseen.clock();
    FOR i IN REVERSE cardinality(v_space.generations)..1 LOOP
        DELETE FROM firstseen.claims AS c
        WHERE c.generation = v_space.generations[i] AND c.namespace = v_space.number
            AND c.id = p_id AND c.ends > v_now;
        IF FOUND THEN
            RETURN true;
        END IF;
    END LOOP;
    RETURN false;
END
$$;

-- Returns about how many claims a namespace has: counted up to ten thousand, beyond that as the planner estimates.
CREATE FUNCTION firstseen.claims_about(p_namespace bytea) RETURNS bigint
LANGUAGE plpgsql
SET enable_seqscan = off
AS $$
DECLARE
    v_space firstseen.namespaces;
    v_now CONSTANT bigint := firstseen.clock();
    v_looked_at bigint;
    v_live bigint;
    v_plan json;
BEGIN
    SELECT * INTO v_space FROM firstseen.namespaces WHERE name = p_namespace;
    SELECT count(*), count(*) FILTER (WHERE seen.ends > v_now) INTO v_looked_at, v_live
    FROM (
        SELECT c.ends FROM firstseen.claims AS c
        WHERE c.generation = ANY (v_space.generations) AND c.namespace = v_space.number
        LIMIT 10001
    ) AS seen;
    IF v_looked_at <= 10000 THEN
        RETURN v_live;
    END IF;
    EXECUTE format(
        'EXPLAIN (FORMAT JSON) SELECT FROM firstseen.claims WHERE generation = ANY (%L) AND namespace = %s AND ends > %s',
        v_space.generations, v_space.number, v_now
    ) INTO v_plan;
    RETURN greatest(v_live, (v_plan -> 0 -> 'Plan' ->> 'Plan Rows')::numeric::bigint);
END
$$;

-- Returns the namespaces that do not make their claims where they should, and the generation where they should.
CREATE FUNCTION firstseen.misplaced() RETURNS TABLE (namespace integer, number integer)
LANGUAGE sql AS $$
    SELECT n.number, coalesce(g.number, 0)
    FROM firstseen.namespaces AS n
    LEFT JOIN firstseen.generations AS g ON g.span = firstseen.span(n.ttl_max) AND g.sealed IS NULL
    WHERE n.ttl_max > 0 AND n.generations[cardinality(n.generations)] <> coalesce(g.number, 0)
$$;

-- Returns the generations that are open, and in which no namespace makes claims any more.
CREATE FUNCTION firstseen.abandoned() RETURNS TABLE (number integer)
LANGUAGE sql AS $$
    SELECT g.number FROM firstseen.generations AS g
    WHERE g.number <> 0 AND g.sealed IS NULL AND NOT EXISTS (
        SELECT FROM firstseen.namespaces AS n WHERE n.generations[cardinality(n.generations)] = g.number
    )
$$;

-- Opens the first generation of each span that is in use, and the next one where the current one is half as old as the longest
-- ttl in it: so a namespace has four at most, and its claims are kept for half of their ttl beyond their end. Returns how many; NULL if another maintenance is under way.
CREATE FUNCTION firstseen.open_generations(p_lock_ms integer) RETURNS integer
LANGUAGE plpgsql AS $$
DECLARE
    v_never CONSTANT bigint := 9223372036854775807;
    v_length_min CONSTANT bigint := 15 * 60000;
    v_spans bigint[] := '{}';
    v_numbers integer[] := '{}';
    v_span bigint;
    v_length bigint;
    v_number integer;
    v_current firstseen.generations;
    v_now bigint;
BEGIN
    IF NOT pg_try_advisory_xact_lock(firstseen.maintenance()) THEN
        RETURN NULL;
    END IF;
    PERFORM set_config('lock_timeout', p_lock_ms::text, true);
    -- Tables first, while claims go on: attaching one does not disturb them.
    FOR v_span, v_length IN
        SELECT firstseen.span(n.ttl_max), greatest(max(n.ttl_max) / 2, v_length_min)
        FROM firstseen.namespaces AS n WHERE firstseen.span(n.ttl_max) IS NOT NULL GROUP BY 1
    LOOP
        SELECT * INTO v_current FROM firstseen.generations WHERE span = v_span AND sealed IS NULL;
        IF FOUND AND (
            v_current.opened + v_length > firstseen.clock()
            OR NOT EXISTS (SELECT FROM firstseen.claims WHERE generation = v_current.number)
        ) THEN
            CONTINUE;
        END IF;
        v_number := nextval('firstseen.generation_numbers');
        EXECUTE format(
            -- It is dropped before a vacuum would pay.
            'CREATE TABLE firstseen.claims_%s (LIKE firstseen.claims) WITH (autovacuum_vacuum_insert_threshold = -1)',
            v_number
        );
        EXECUTE format(
            'ALTER TABLE firstseen.claims ATTACH PARTITION firstseen.claims_%s FOR VALUES IN (%s)',
            v_number, v_number
        );
        v_spans := v_spans || v_span;
        v_numbers := v_numbers || v_number;
    END LOOP;
    IF v_numbers = '{}' AND NOT EXISTS (SELECT FROM firstseen.misplaced())
        AND NOT EXISTS (SELECT FROM firstseen.abandoned())
    THEN
        RETURN 0;
    END IF;

    -- Once this is granted, no claim is under way.
    PERFORM pg_advisory_xact_lock(firstseen.gate());
    v_now := firstseen.clock();
    -- Out of the way of those that follow them.
    UPDATE firstseen.generations SET sealed = v_now WHERE sealed IS NULL AND span = ANY (v_spans);
    INSERT INTO firstseen.generations (number, span, opened)
    SELECT o.number, o.span, v_now FROM unnest(v_numbers, v_spans) AS o(number, span);
    UPDATE firstseen.namespaces AS n SET generations = array_remove(n.generations, m.number) || m.number
    FROM firstseen.misplaced() AS m WHERE n.number = m.namespace;
    UPDATE firstseen.generations SET sealed = v_now WHERE number IN (SELECT a.number FROM firstseen.abandoned() AS a);
    UPDATE firstseen.generations AS g
    SET ends_max = coalesce((
        SELECT CASE WHEN max(n.ttl_max) = v_never THEN v_never ELSE v_now + max(n.ttl_max) END
        FROM firstseen.namespaces AS n WHERE g.number = ANY (n.generations)
    ), v_now)
    WHERE g.sealed IS NOT NULL AND g.ends_max IS NULL;
    RETURN cardinality(v_numbers);
END
$$;

-- Drops the oldest generation whose claims have all ended, and returns its number; NULL if there is none, or another
-- maintenance is under way.
CREATE FUNCTION firstseen.drop_generation(p_lock_ms integer) RETURNS integer
LANGUAGE plpgsql AS $$
DECLARE
    v_number integer;
BEGIN
    IF NOT pg_try_advisory_xact_lock(firstseen.maintenance()) THEN
        RETURN NULL;
    END IF;
    SELECT min(g.number) INTO v_number FROM firstseen.generations AS g
    WHERE g.ends_max <= firstseen.clock()
        OR (g.ends_max = 9223372036854775807 AND NOT EXISTS (SELECT FROM firstseen.claims WHERE generation = g.number));
    IF v_number IS NULL THEN
        RETURN NULL;
    END IF;
    PERFORM set_config('lock_timeout', p_lock_ms::text, true);
    PERFORM pg_advisory_xact_lock(firstseen.gate());
    UPDATE firstseen.namespaces SET generations = array_remove(generations, v_number)
    WHERE v_number = ANY (generations);
    DELETE FROM firstseen.generations WHERE number = v_number;
    EXECUTE format('DROP TABLE firstseen.claims_%s', v_number);
    RETURN v_number;
END
$$;

-- Deletes claims that have ended where no partition can be dropped for them, at most so many. Returns how many; NULL if another
-- maintenance is under way.
CREATE FUNCTION firstseen.delete_ended_claims(p_limit integer, p_lock_ms integer) RETURNS bigint
LANGUAGE plpgsql AS $$
DECLARE
    v_never CONSTANT bigint := 9223372036854775807;
    v_number integer;
    v_deleted bigint := 0;
    v_count bigint;
BEGIN
    IF NOT pg_try_advisory_xact_lock(firstseen.maintenance()) THEN
        RETURN NULL;
    END IF;
    PERFORM set_config('lock_timeout', p_lock_ms::text, true);
    FOR v_number IN
        SELECT g.number FROM firstseen.generations AS g WHERE g.number = 0 OR g.ends_max = v_never ORDER BY 1
    LOOP
        IF v_number <> 0 THEN
            EXECUTE format(
                'CREATE INDEX IF NOT EXISTS claims_%s_ends ON firstseen.claims_%s (ends) WHERE ends < %s',
                v_number, v_number, v_never
            );
        END IF;
        EXECUTE format(
            'DELETE FROM firstseen.claims_%s WHERE ctid = ANY (ARRAY(
                SELECT ctid FROM firstseen.claims_%s WHERE ends <= $1 AND ends < %s
                ORDER BY ends LIMIT $2 FOR UPDATE SKIP LOCKED))',
            v_number, v_number, v_never
        ) USING firstseen.clock(), p_limit - v_deleted;
        GET DIAGNOSTICS v_count = ROW_COUNT;
        v_deleted := v_deleted + v_count;
    END LOOP;
    -- Namespaces that have moved on need not look there any more.
    UPDATE firstseen.namespaces AS n SET generations = array_remove(n.generations, 0)
    WHERE 0 = ANY (n.generations) AND n.generations[cardinality(n.generations)] <> 0
        AND NOT EXISTS (SELECT FROM firstseen.claims_0 AS c WHERE c.generation = 0 AND c.namespace = n.number);
    RETURN v_deleted;
END
$$;

INSERT INTO firstseen.versions (version) VALUES (1);
