//! The faults, and the rules that each is planted to break.

/// Declares the faults with the rules that have to notice them.
macro_rules! faults {
    ($($(#[doc = $doc:literal])* $fault:ident => $($rule:ident)+;)*) => {
        /// A rule broken on purpose.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub(super) enum Fault {
            $($(#[doc = $doc])* $fault,)*
        }

        impl Fault {
            /// All of them, with the rules that have to notice them.
            pub(super) const ALL: &[(Self, &[&str])] =
                &[$((Self::$fault, &[$(stringify!($rule)),+])),*];
        }
    };
}

faults! {
    /// Each handle knows its own claims only.
    ClaimsPerHandle => an_id_is_first_seen_once_whoever_asks;
    FirstSeenIsNow => a_duplicate_is_told_when_the_claim_was_made;
    BatchAnswersSorted => answers_come_in_the_order_of_the_batch;
    /// Ids of a batch are claimed one by one under the same call.
    EqualIdsAllFirst => of_equal_ids_in_a_batch_the_first_is_first_seen;
    LargeBatchCut => a_batch_may_be_empty_or_large;
    ClaimsEndLate => a_claim_ends_when_its_ttl_has_passed_and_not_before;
    ClaimsEndEarly => a_claim_ends_when_its_ttl_has_passed_and_not_before;
    SlidingClaims => a_duplicate_does_not_make_a_claim_longer;
    TtlOfTheFirstCall => each_claim_has_the_ttl_of_its_own_call;
    ForeverIsFortyYears => a_claim_for_ever_outlasts_all_others;
    ForgetKeepsClaim => a_forgotten_id_is_first_seen_again;
    ForgetCountsEnded => a_forgotten_id_is_first_seen_again;
    ContainsClaims => looking_an_id_up_claims_nothing;
    /// The key of a row is the name, a colon and the id.
    NamesRunTogether => namespaces_are_apart;
    ForgetRemovesRecord => claims_and_records_of_one_name_are_apart;
    IdsEndAtZero => ids_are_compared_byte_for_byte;
    IdsAreText => ids_are_compared_byte_for_byte;
    IdsInOneCase => ids_are_compared_byte_for_byte;

    EmptyIdsTaken => an_id_that_is_empty_or_too_long_is_refused;
    LongIdsCut => an_id_that_is_empty_or_too_long_is_refused;
    BatchClaimedUpToBadId => one_bad_id_refuses_its_batch;
    LongNamesCut => a_namespace_without_a_name_or_with_too_long_a_name_is_refused;
    ZeroTtlIsForever => a_ttl_of_zero_is_refused;
    TtlWraps => a_ttl_beyond_counting_never_ends_early;
    LeaseWraps => a_lease_or_a_delay_beyond_counting_never_ends_early;
    DelayWraps => a_lease_or_a_delay_beyond_counting_never_ends_early;
    ZeroLeaseTaken => a_lease_below_a_millisecond_is_refused;
    NoAttemptsTaken => a_policy_without_attempts_is_refused;
    LongWorkersCut => a_worker_with_too_long_a_name_is_refused;
    LongResultsCut => a_result_above_the_limit_is_refused_and_its_attempt_goes_on;
    LongResultEndsAttempt => a_result_above_the_limit_is_refused_and_its_attempt_goes_on;
    EmptyResultIsNone => a_result_of_any_bytes_comes_back;
    ResultsAreText => a_result_of_any_bytes_comes_back;
    ReasonsKeptWhole => what_attempts_say_is_kept_and_cut_between_characters;
    ReasonsDropped => what_attempts_say_is_kept_and_cut_between_characters;
    PolicyOfTheFirstCall => each_call_is_answered_by_its_own_policy;

    CallsOfClaimsForgotten => a_claim_repeated_after_a_lost_answer_is_still_the_callers_own;
    /// A call that has claimed one id has claimed all.
    CallsOfClaimsWithoutId => a_claim_repeated_after_a_lost_answer_is_still_the_callers_own;
    RepeatedBatchOneByOne => a_repeated_batch_is_answered_as_it_was;
    CallsOfClaimsForEver => a_call_is_remembered_as_long_as_its_claim_and_no_longer;
    CallsOfBeginForgotten => a_begin_repeated_after_a_lost_answer_is_told_of_its_attempt;
    RepeatedBeginRenews => a_begin_repeated_after_a_lost_answer_is_told_of_its_attempt;
    CallsOfBeginForEver => a_begin_repeated_after_its_attempt_has_ended_starts_nothing_twice;
    SecondEndIsFenced
        => an_end_repeated_after_a_lost_answer_is_over_with_the_record_as_it_left_it;
    SecondEndIsDone
        => an_end_repeated_after_a_lost_answer_is_over_with_the_record_as_it_left_it;

    JoinedAttempts => an_unknown_id_is_started_and_one_caller_is_told_so;
    CompletedCounted => a_completed_id_replays_its_result_and_counts_nothing;
    CompletedStartsAgain => a_completed_id_replays_its_result_and_counts_nothing;
    FailureMarkLost => a_failure_that_is_kept_is_replayed_and_marked;
    MismatchShowsResult => another_input_is_a_mismatch_in_every_state_and_sees_no_result;
    MismatchOnlyOfWhatIsDone => another_input_is_a_mismatch_in_every_state_and_sees_no_result;
    MismatchTakesOver => a_mismatch_leaves_a_record_alone_whose_lease_has_ended;
    FingerprintOfTheLastAttempt => the_first_fingerprint_stays_and_without_one_nothing_is_compared;
    FingerprintOfTheRefused => the_first_fingerprint_stays_and_without_one_nothing_is_compared;
    WorkersNotKept => a_record_tells_who_works_on_it_and_until_when;
    ReadAtFirst => a_record_tells_who_works_on_it_and_until_when;
    LedgersRunTogether => one_id_in_two_ledgers_is_two_records;
    ResultTtlFromBegin => a_record_ends_with_the_ttl_of_its_completion_and_not_with_its_lease;
    ResultsForEver => a_record_ends_with_the_ttl_of_its_completion_and_not_with_its_lease;
    EndedRecordsLeaveTraces => an_ended_record_counts_as_none;
    RefusedBeginsNoted => looking_at_a_record_changes_nothing;

    /// The caller's clock decides, which shows another time than the store's.
    LeaseByCallersClock => a_lease_ends_at_its_time_and_the_next_attempt_takes_over;
    LeasesEndLate => a_lease_ends_at_its_time_and_the_next_attempt_takes_over;
    CompletedAfterTakeover => who_was_taken_over_is_fenced_and_changes_nothing;
    LateEndRefused => a_late_end_lands_while_nobody_has_taken_over;
    TokenPerWorker => a_token_belongs_to_the_attempt_and_not_to_the_worker;
    TokensPerRecord => tokens_grow_whatever_becomes_of_the_record;
    RenewNeverShortens => a_good_token_renews_a_lease_and_no_other_does;
    AnyTokenRenews => a_good_token_renews_a_lease_and_no_other_does;
    EndedLeaseRenewed => a_good_token_renews_a_lease_and_no_other_does;
    HoldRetries => a_lease_that_ends_under_hold_leaves_the_record_to_an_operator;
    FailIsHold => a_lease_that_ends_under_fail_makes_the_record_dead;
    HeldRefusesCompletion
        => a_record_held_or_buried_for_its_lease_may_be_completed_by_its_attempt;
    HeldTakesEveryEnding
        => a_record_held_or_buried_for_its_lease_may_be_completed_by_its_attempt;
    CrashesNotCounted => a_message_that_kills_its_worker_each_time_is_dead_in_the_end;
    ReadingEndsLease => a_lease_that_has_ended_is_shown_as_it_is_stored;
    OverMayEndAgain => an_attempt_that_is_over_can_do_nothing_more;
    LostAtRestart => what_was_answered_outlasts_a_restart_of_the_store;
    TokensAnewAtRestart => what_was_answered_outlasts_a_restart_of_the_store;

    DelayIgnored => a_failed_id_waits_for_its_delay_and_is_started_anew;
    OneAttemptMore => after_its_last_attempt_a_failed_id_is_dead;
    FinalIsRetried => a_final_failure_is_dead_at_once;
    HeldEndingIsFailed => an_attempt_may_ask_for_an_operator;
    ReleaseCharged => a_record_that_is_handed_back_is_not_charged;
    DeadForEver => dead_records_end_with_the_ttl_of_the_policy;
    HeldEnds => dead_records_end_with_the_ttl_of_the_policy;
    HistoryKeepsTheFirst => a_record_remembers_its_last_attempts_in_order;
    CompletionClearsHistory => a_completion_after_failures_counts;

    RedriveKeepsCount
        => a_redriven_id_may_be_tried_as_often_as_a_new_one_and_keeps_its_history;
    RedriveClearsHistory
        => a_redriven_id_may_be_tried_as_often_as_a_new_one_and_keeps_its_history;
    RedriveTakesAll => only_what_is_dead_or_held_is_redriven;
    RedriveKeepsTtl => a_redriven_record_does_not_end_by_itself;
    OperatorFencesNobody => an_operators_word_fences_the_attempt;
    SettledAsFailure => a_held_record_is_settled_with_a_result;
    SettleTakesAll => only_what_is_held_is_settled;
    ForgottenRecordsLeaveTraces
        => forgetting_a_record_removes_all_of_it_and_fences_its_attempt;
    RunningIsNotForgotten => forgetting_a_record_removes_all_of_it_and_fences_its_attempt;
    DeadLettersBackwards => dead_letters_are_listed_in_order_and_in_pages;
    DeadLettersWithoutHeld => dead_letters_are_listed_in_order_and_in_pages;
    StatsCountAll => stats_count_dead_letters_and_what_else_they_count;

    ClaimInTwoSteps
        => of_many_that_claim_an_id_at_once_one_is_first
        of_many_overlapping_batches_each_id_is_first_once
        claims_and_forgets_at_once_are_each_one_step;
    ForgetInTwoSteps => claims_and_forgets_at_once_are_each_one_step;
    BeginInTwoSteps
        => of_many_that_begin_at_once_one_is_started
        of_many_that_find_an_ended_lease_one_takes_over
        attempts_of_one_id_follow_each_other;
    EndInTwoSteps => of_many_completions_at_once_one_lands;
    /// Every hundredth look is wrong.
    RareLie => random_histories_are_answered_as_the_reference_answers;
}
