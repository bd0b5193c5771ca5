//! The model keeps its own rules.

firstseen_conformance::conformance!(firstseen_conformance::Reference::fixture());
