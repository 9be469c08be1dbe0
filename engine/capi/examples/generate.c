/* Continues a prompt: generate MODEL PROMPT [TEMPERATURE SEED]
 *
 *     cc -std=c11 -I engine/capi -o generate engine/capi/examples/generate.c -L target/release -lbrillm_capi
 */
#include "brillm.h"

#include <stdio.h>
#include <stdlib.h>

static int fail(brillm_error *error) {
    fprintf(stderr, "error %d: %s\n", (int)brillm_error_status(error), brillm_error_message(error));
    brillm_error_free(error);
    return 1;
}

int main(int count, char **arguments) {
    if (count < 3) {
        fprintf(stderr, "usage: %s MODEL PROMPT [TEMPERATURE SEED]\n", arguments[0]);
        return 2;
    }
    brillm_error *error = NULL;
    brillm_model *model = NULL;
    if (brillm_model_open(arguments[1], NULL, &model, &error) != BRILLM_OK) {
        return fail(error);
    }

    brillm_parameters parameters = {.struct_size = sizeof parameters, .tokens = 24};
    if (count > 4) {
        parameters.temperature = strtod(arguments[3], NULL);
        parameters.seed = strtoull(arguments[4], NULL, 10);
    }
    brillm_session *session = NULL;
    brillm_status status = brillm_session_new(model, &parameters, &session, &error);
    brillm_model_release(model); /* the session keeps the model */
    if (status != BRILLM_OK) {
        return fail(error);
    }

    brillm_outcome outcome = {.struct_size = sizeof outcome};
    status = brillm_session_generate(session, arguments[2], BRILLM_TERMINATED, NULL, NULL, &outcome, &error);
    if (status == BRILLM_OK) {
        printf("%s%s\n", arguments[2], brillm_session_text(session, NULL));
        printf("%u tokens, finish %u\n", (unsigned)outcome.tokens, (unsigned)outcome.finish);
    }
    brillm_session_release(session);
    return status == BRILLM_OK ? 0 : fail(error);
}
