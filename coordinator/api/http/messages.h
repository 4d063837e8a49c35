// The parts of a chat request that are about messages and tools.
#pragma once

#include "coordinator/api/http/fields.h"

namespace atl::coordinator {

// messages: roles with content (a text or text parts), an assistant's tool_calls, a tool's tool_call_id.
void ReadMessages(Fields* fields, v1::GenerateRequest* out);
// tools, tool_choice and parallel_tool_calls. Choices that the model cannot be held to are refused.
void ReadTools(Fields* fields, OpenAiRequest* out);

}  // namespace atl::coordinator
